"""Training data and training options of learned codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from data_prep.checks import Options
from data_prep.marks import Advanced, Count, Excludes, NotNegative, Positive, Range, Share, Whole


@dataclass(frozen=True)
class Pairs:
    """Documents and their queries, as vectors.

    Attributes:
        documents: One vector each; float32 [documents, dimensions].
        queries: float32 [queries, dimensions].
        owners: The document of each query; int64 [queries].
    """

    documents: npt.NDArray[np.float32]
    queries: npt.NDArray[np.float32]
    owners: npt.NDArray[np.int64]


@dataclass(frozen=True)
class LearningOptions(Options, group="learned"):
    """How codes are trained: number of passes, learning rate and the like."""

    model: Advanced[str | None] = None
    """Encoder-decoder to train the codes with, as GenRet does; default: a small network over
    document vectors"""
    width: Advanced[Annotated[Count, Excludes("model", "are two networks")]] = 256
    """Hidden size of the small network"""
    warmup_epochs: Advanced[Whole] = 1
    """Epochs per position with the retrieval loss alone"""
    epochs: Advanced[Count] = 4
    """Epochs per position, and for all positions at the end"""
    batch: Advanced[Annotated[int, Range(ge=2)]] = 256
    """Query-document pairs per step"""
    lr: Advanced[Positive] = 1e-3
    """Learning rate (AdamW)"""
    retrieval: Advanced[NotNegative] = 0.5
    """Weight of the retrieval loss (GenRet: 0.5)"""
    commitment: Advanced[NotNegative] = 0.5
    """Weight of the commitment loss (GenRet: 0.5)"""
    codes: Advanced[NotNegative] = 0.5
    """Weight of the loss on previous codes (GenRet: 0.5)"""
    reconstruction: Advanced[NotNegative] = 0.1
    """Weight of the reconstruction loss (GenRet: 0.1)"""
    least_use: Advanced[Share] = 0.3
    """Minimum codebook perplexity, of assigned and of predicted codes, as a fraction of its size; 0
    accepts any"""
