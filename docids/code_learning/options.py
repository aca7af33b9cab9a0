"""Training data and training options of learned codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from data_prep.marks import Advanced


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
class LearningOptions:
    """How codes are trained: number of passes, learning rate and the like."""

    model: Advanced[str | None] = None
    """Encoder-decoder to train the codes with, as GenRet does; default: a small network over
    document vectors"""
    width: Advanced[int] = 256
    """Hidden size of the small network"""
    warmup_epochs: Advanced[int] = 1
    """Epochs per position with the retrieval loss alone"""
    epochs: Advanced[int] = 4
    """Epochs per position, and for all positions at the end"""
    batch: Advanced[int] = 256
    """Query-document pairs per step"""
    lr: Advanced[float] = 1e-3
    """Learning rate (AdamW)"""
    retrieval: Advanced[float] = 0.5
    """Weight of the retrieval loss (GenRet: 0.5)"""
    commitment: Advanced[float] = 0.5
    """Weight of the commitment loss (GenRet: 0.5)"""
    codes: Advanced[float] = 0.5
    """Weight of the loss on previous codes (GenRet: 0.5)"""
    reconstruction: Advanced[float] = 0.1
    """Weight of the reconstruction loss (GenRet: 0.1)"""
    least_use: Advanced[float] = 0.3
    """Minimum codebook perplexity, of assigned and of predicted codes, as a share of its size; 0
    accepts any"""

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("warmup_epochs", 0), ("epochs", 1), ("batch", 2)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}", hint=f"Give {least} or more")
        if self.model is not None and self.width != LearningOptions.width:
            raise InputError(
                f"--learned.width {self.width} is about the small network, which --learned.model "
                f"{self.model} replaces",
                hint="Omit one of them",
            )
        if not self.lr > 0:
            raise InputError(f"lr is {self.lr}", hint="Give a number above 0")
        for name in ("retrieval", "commitment", "codes", "reconstruction"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} is {getattr(self, name)}", hint="Give 0 or more")
        if not 0 <= self.least_use <= 1:
            raise InputError(f"least_use is {self.least_use}", hint="Give a number from 0 to 1")
