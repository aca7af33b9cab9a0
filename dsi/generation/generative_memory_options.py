"""The user's options of the generative memory; the text under a field is its help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from data_prep.marks import Advanced, Count, Excludes, Only, Open, Range, Whole
from dsi.generation.sampling import SamplingOptions

Width = Annotated[Count, Only(lambda width: width % 64 == 0, "a multiple of 64")]
_TWO_MODELS = "are a trained memory and a model to train"


@dataclass(frozen=True)
class MemoryOptions(SamplingOptions, group="memory"):
    """The generative memory: the model, its training, and the sampling of queries."""

    document_length: Advanced[int] = 96
    """Maximum tokens of a document"""
    query_length: Advanced[int] = 32
    """Maximum tokens per query, in training and in generation"""
    folder: Advanced[Annotated[str | None, Excludes("pretrained", _TWO_MODELS)]] = None
    """Trained generative memory to use, such as INDEX/versions/0001/memory"""
    pretrained: str | None = None
    """Encoder-decoder to start from: hub id or path. Much better than from scratch"""
    width: Advanced[Width] = 256
    """Hidden size of a model from scratch"""
    layers: Advanced[Count] = 1
    """Encoder layers and decoder layers of a model from scratch"""
    vocabulary: Advanced[Annotated[int, Range(ge=100)]] = 4000
    """Maximum vocabulary size"""
    steps: Count = 400
    """Training steps"""
    pairs: Advanced[Count] = 16
    """Labeled pairs per step"""
    lr: Advanced[Open] = 1e-3
    """Peak learning rate; about 1e-4 for a pretrained model"""
    warmup: Advanced[Whole] = 50
    """Warm-up steps; the learning rate then falls to 0"""
