"""Residual quantization: each code stands for what the codes before it leave of the vector."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from docids.kinds.base import KINDS
from docids.kinds.quantization import Quantized


class ResidualQuantization(Quantized):
    """Codes from coarse to fine (Zeng et al., RIPOR, WWW 2024, section 3.2), each the nearest.

    The first codes of near documents are the same, as in a tree of clusters, but the codebook of
    a level is the same everywhere.
    """

    def quantizer(self, dimensions: int, levels: int, bits: int) -> Any:
        """Returns an untrained residual quantizer."""
        import faiss

        quantizer = faiss.ResidualQuantizer(dimensions, levels, bits)
        # Progressive in the dimensions, its default, needs more points than dimensions.
        quantizer.train_type = faiss.ResidualQuantizer.Train_default
        # With a beam, faiss trains a level on what several codes before it leave of each vector,
        # most of them not its own: a few codewords take the own ones, and the level collapses.
        quantizer.max_beam_size = 1
        return quantizer

    def codebooks(self, quantizer: Any) -> Any:
        """Returns the vector that holds the codebooks."""
        return quantizer.codebooks

    def in_full(
        self, books: npt.NDArray[np.float32], levels: int, size: int, dimensions: int
    ) -> npt.NDArray[np.float32]:
        """Returns codebooks in all dimensions, as they are."""
        return books.reshape(levels, size, dimensions)


# A code of a single document leaves nothing of it for the levels below, which then collapse.
KINDS.register("rq")(ResidualQuantization("rq", each=8))
