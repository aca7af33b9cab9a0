"""Residual quantization: each code stands for the residual that the codes before it leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.marks import Advanced
from docids.kinds.balanced_kmeans import balanced_codebooks, balanced_codes
from docids.kinds.base import KINDS
from docids.kinds.quantization import QuantizationOptions, Quantized, training_points


@dataclass(frozen=True)
class ResidualOptions(QuantizationOptions):
    """The codebooks, and what happens to documents with equal codes."""

    balance: Advanced[bool] = False
    """Use all codes of a level equally often: a document may get a code that is not its nearest"""


class ResidualQuantization(Quantized):
    """Codes from coarse to fine (Zeng et al., RIPOR, WWW 2024, section 3.2), each the nearest one.

    Similar documents share their first codes, as in a tree of clusters, but all documents share the
    codebook of a level.
    """

    Options = ResidualOptions

    def quantized(
        self, vectors: npt.NDArray[np.float32], options: Any, size: int, seed: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Trains the codebooks and encodes the documents; see `Quantized.quantized`."""
        if not options.balance:
            return super().quantized(vectors, options, size, seed)
        first_seed = int(np.random.default_rng([seed, 11]).integers(2**31 - options.levels))
        points = training_points(vectors, size, seed)
        books = balanced_codebooks(points, options.levels, size, options.iterations, first_seed)
        return books.ravel(), balanced_codes(vectors, books)

    def quantizer(self, dimensions: int, levels: int, bits: int) -> Any:
        """Returns an untrained residual quantizer."""
        import faiss

        quantizer = faiss.ResidualQuantizer(dimensions, levels, bits)
        # The default, progressive dimensions, needs more points than dimensions.
        quantizer.train_type = faiss.ResidualQuantizer.Train_default
        # With a beam, faiss trains a level on the residuals of several candidate codes for each
        # vector, most of which it will not use: a few codewords capture the residuals that matter,
        # and the level collapses.
        quantizer.max_beam_size = 1
        return quantizer

    def codebooks(self, quantizer: Any) -> Any:
        """Returns the vector that holds the codebooks."""
        return quantizer.codebooks

    def in_full(
        self, books: npt.NDArray[np.float32], levels: int, size: int, dimensions: int
    ) -> npt.NDArray[np.float32]:
        """Returns codebooks in all dimensions, unchanged."""
        return books.reshape(levels, size, dimensions)


# A code for a single document leaves no residual for the levels below, which then collapse.
KINDS.register("rq")(ResidualQuantization("rq", each=8))
