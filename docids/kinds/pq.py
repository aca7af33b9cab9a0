"""Product quantization: each code stands for one part of the dimensions of the vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from data_prep.marks import Advanced
from docids.kinds.base import KINDS
from docids.kinds.clustering import one_thread
from docids.kinds.quantization import QuantizationOptions, Quantized, training_points

_ITERATIONS_IN_TURN = 4
"""k-means iterations after each change of an optimized rotation."""


@dataclass(frozen=True)
class ProductOptions(QuantizationOptions):
    """The codebooks, and what happens to documents with equal codes."""

    rotation: Advanced[Literal["random", "opq"]] = "random"
    """Rotation before quantization. opq: the one with the least quantization error that optimized
    product quantization finds"""


class ProductQuantization(Quantized):
    """Codes of equal rank, each for dimensions of its own.

    The vectors are first rotated at random: latent semantic analysis concentrates its variance in
    the first dimensions, which would leave little for the codes of the last ones. Optimized product
    quantization (Ge et al., CVPR 2013) learns the rotation instead, in turns with the codebooks.

    Zhou et al., Ultron (arXiv 2208.09257); Chen et al., CLEVER (CIKM 2023); Zhang et al., MEVI
    (WWW 2024).
    """

    Options = ProductOptions

    def quantizer(self, dimensions: int, levels: int, bits: int) -> Any:
        """Returns an untrained product quantizer."""
        import faiss

        return faiss.ProductQuantizer(dimensions, levels, bits)

    def rotation(
        self, vectors: npt.NDArray[np.float32], options: Any, size: int, seed: int
    ) -> npt.NDArray[np.float32]:
        """Returns a random rotation of the dimensions, or an optimized one that starts from it."""
        dimensions = vectors.shape[1]
        gaussian = np.random.default_rng([seed, 13]).standard_normal((dimensions, dimensions))
        rotation = np.linalg.qr(gaussian)[0].astype(np.float32)
        if options.rotation == "random":
            return rotation
        points = training_points(vectors, size, seed)
        quantizer = self.quantizer(dimensions, options.levels, size.bit_length() - 1)
        quantizer.cp.min_points_per_centroid = 1
        quantizer.cp.niter = options.iterations
        # The codebooks and the rotation take turns, as in faiss.OPQMatrix, which aborts the process
        # where vectors fill only a subspace, as those of a small corpus do.
        with one_thread():
            for _ in range(options.iterations):
                rotated = np.ascontiguousarray(points @ rotation)
                quantizer.train(rotated)
                decoded = quantizer.decode(quantizer.compute_codes(rotated))
                left, _, right = np.linalg.svd((points.T @ decoded).astype(np.float64))
                rotation = (left @ right).astype(np.float32)
                quantizer.train_type = quantizer.Train_hot_start
                quantizer.cp.niter = _ITERATIONS_IN_TURN
        return rotation

    def codebooks(self, quantizer: Any) -> Any:
        """Returns the vector that holds the codebooks."""
        return quantizer.centroids

    def in_full(
        self, books: npt.NDArray[np.float32], levels: int, size: int, dimensions: int
    ) -> npt.NDArray[np.float32]:
        """Returns codebooks in all dimensions: each level's in its own, 0 elsewhere."""
        part = dimensions // levels
        full = np.zeros((levels, size, levels, part), np.float32)
        level_numbers = np.arange(levels)
        full[level_numbers, :, level_numbers] = books.reshape(levels, size, part)
        return full.reshape(levels, size, dimensions)


KINDS.register("pq")(ProductQuantization("pq", each=1))
