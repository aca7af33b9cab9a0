"""Product quantization: each code stands for one part of the dimensions of the vector."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from docids.kinds.base import KINDS
from docids.kinds.quantization import Quantized


class ProductQuantization(Quantized):
    """Codes of equal rank, each for dimensions of its own.

    The vectors are first rotated at random: latent semantic analysis concentrates its variance in
    the first dimensions, which would leave little for the codes of the last ones.

    Zhou et al., Ultron (arXiv 2208.09257); Chen et al., CLEVER (CIKM 2023); Zhang et al., MEVI
    (WWW 2024).
    """

    def quantizer(self, dimensions: int, levels: int, bits: int) -> Any:
        """Returns an untrained product quantizer."""
        import faiss

        return faiss.ProductQuantizer(dimensions, levels, bits)

    def rotation(self, dimensions: int, seed: int) -> npt.NDArray[np.float32]:
        """Returns a random rotation of the dimensions."""
        drawn = np.random.default_rng([seed, 13]).standard_normal((dimensions, dimensions))
        return np.linalg.qr(drawn)[0].astype(np.float32)

    def codebooks(self, quantizer: Any) -> Any:
        """Returns the vector that holds the codebooks."""
        return quantizer.centroids

    def in_full(
        self, books: npt.NDArray[np.float32], levels: int, size: int, dimensions: int
    ) -> npt.NDArray[np.float32]:
        """Returns codebooks in all dimensions: each level's in its own, 0 elsewhere."""
        part = dimensions // levels
        full = np.zeros((levels, size, levels, part), np.float32)
        own = np.arange(levels)
        full[own, :, own] = books.reshape(levels, size, part)
        return full.reshape(levels, size, dimensions)


KINDS.register("pq")(ProductQuantization("pq", each=1))
