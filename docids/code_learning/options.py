"""What codes are learned from, and how long and how fast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError


@dataclass(frozen=True)
class Pairs:
    """Documents and what is asked of them, as vectors.

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
    """How long and how fast codes are learned."""

    model: str | None = None
    """Hub id or path of an encoder-decoder that is trained with the codes, as GenRet trains a T5;
    by default a small network over document vectors is"""
    width: int = 256
    """Width of the small network's states"""
    warmup_epochs: int = 1
    """Passes over the queries that a position is trained on retrieval alone"""
    epochs: int = 4
    """Passes over the queries for each position, and at the end for all"""
    batch: int = 256
    """Pairs of query and document in a step"""
    lr: float = 1e-3
    """Learning rate (AdamW)"""
    retrieval: float = 0.5
    """Weight of the retrieval loss (GenRet: 0.5)"""
    commitment: float = 0.5
    """Weight of the commitment loss (GenRet: 0.5)"""
    codes: float = 0.5
    """Weight of the loss of the codes before (GenRet: 0.5)"""
    reconstruction: float = 0.1
    """Weight of the reconstruction loss (GenRet: 0.1)"""
    least_use: float = 0.3
    """Refused is a codebook that is used less evenly than this, by the codes that documents are
    assigned or by those that the network finds likeliest: the perplexity of these codes as a
    share of the codebook; 0 for any"""

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("warmup_epochs", 0), ("epochs", 1), ("batch", 2)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}", hint=f"Give {least} or more")
        if self.model is not None and self.width != LearningOptions.width:
            raise InputError(
                f"--learned.width {self.width} is about the small network, which --learned.model "
                f"{self.model} replaces",
                hint="Leave one of the two out",
            )
        if not self.lr > 0:
            raise InputError(f"lr is {self.lr}", hint="Give a number above 0")
        for name in ("retrieval", "commitment", "codes", "reconstruction"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} is {getattr(self, name)}", hint="Give 0 or more")
        if not 0 <= self.least_use <= 1:
            raise InputError(f"least_use is {self.least_use}", hint="Give a share from 0 to 1")
