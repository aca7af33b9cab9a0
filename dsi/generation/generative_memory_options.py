"""The user's options of the generative memory; the text under a field is its help."""

from __future__ import annotations

from dataclasses import dataclass

from data_prep.checks import check_numbers
from data_prep.errors import InputError
from data_prep.marks import Advanced
from dsi.generation.sampling import SamplingOptions


@dataclass(frozen=True)
class MemoryOptions(SamplingOptions):
    """The generative memory: the model, its training, and the sampling of queries."""

    document_length: Advanced[int] = 96
    """Maximum tokens of a document"""
    query_length: Advanced[int] = 32
    """Maximum tokens per query, in training and in generation"""
    folder: Advanced[str | None] = None
    """Trained generative memory to use, such as INDEX/versions/0001/memory"""
    pretrained: str | None = None
    """Encoder-decoder to start from: hub id or path. Much better than from scratch"""
    width: Advanced[int] = 256
    """Hidden size of a model from scratch"""
    layers: Advanced[int] = 1
    """Encoder layers and decoder layers of a model from scratch"""
    vocabulary: Advanced[int] = 4000
    """Maximum vocabulary size"""
    steps: int = 400
    """Training steps"""
    pairs: Advanced[int] = 16
    """Labeled pairs per step"""
    lr: Advanced[float] = 1e-3
    """Peak learning rate; about 1e-4 for a pretrained model"""
    warmup: Advanced[int] = 50
    """Warm-up steps; the learning rate then falls to 0"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(
            self,
            "memory",
            not_negative=("warmup",),
            at_least_one=("width", "layers", "steps", "pairs"),
        )
        if self.width % 64:
            raise InputError(f"--memory.width {self.width} is not a multiple of 64")
        if self.vocabulary < 100:
            raise InputError(f"--memory.vocabulary {self.vocabulary} is less than 100 tokens")
        if not 0 < self.lr < 1:
            raise InputError(f"--memory.lr {self.lr} is not between 0 and 1")
        if self.folder is not None and self.pretrained is not None:
            raise InputError(
                "--memory.folder is a trained memory, --memory.pretrained a model to train",
                hint="Give one of them",
            )
