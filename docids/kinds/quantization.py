"""What `rq` and `pq` share: codes from vector quantizers of faiss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from data_prep.checks import Options
from data_prep.errors import InputError
from data_prep.marks import Advanced, Count, Only, Range, Share
from data_prep.progress import track
from docids.kinds.base import Built, Documents, Kind
from docids.kinds.clustering import one_thread
from docids.kinds.codebooks import append_codes, refuse_collapse, resolve_size, table_of_codes
from docids.kinds.naming import Collisions
from docids.table import FIRST_CODE

_TRAINING_POINTS_PER_CODE = 256
_CHUNK = 100_000
_MANY = 1 << 20
"""A number of documents for which the default codebook size is not reduced."""


CodebookSize = Annotated[
    int, Range(ge=2, le=1 << 16), Only(lambda size: size & (size - 1) == 0, "a power of 2")
]


@dataclass(frozen=True)
class QuantizationOptions(Options):
    """The codebooks, and what happens to documents with equal codes."""

    levels: Advanced[Count] = 8
    """Codes per identifier, each from its own codebook (RIPOR: 8 to 32)"""
    codebook: Advanced[CodebookSize | None] = None
    """Codebook size; default: 256, or less on a small corpus"""
    iterations: Advanced[Count] = 25
    """k-means iterations per codebook"""
    collisions: Advanced[Collisions] = "extend"
    """extend: append a number to every identifier; share: let documents share an identifier, and
    return all of them"""
    least_use: Advanced[Share] = 0.1
    """Minimum codebook perplexity, as a fraction of its size; 0 accepts any"""


class Quantized(Kind):
    """A kind whose codes come from a vector quantizer; its codebooks are kept for new documents.

    Args:
        name: The name of the kind.
        each: Documents needed for each code, if the codebook size is not given.
    """

    Options: type[Any] = QuantizationOptions
    uses_vectors = True
    uses_new_codes = True

    def __init__(self, name: str, *, each: int) -> None:
        self.name = name
        self._each = each

    def codebook_size(self, options: QuantizationOptions, documents: int) -> tuple[int, list[str]]:
        """Returns the codebook size, and a note about it for the user."""
        option = f"--{self.name}.codebook"
        size, notes = resolve_size(options.codebook, documents, each=self._each, option=option)
        return min(size, max(2, 1 << (max(documents, 1).bit_length() - 1))), notes

    def expected_alphabet(self, options: QuantizationOptions, documents: int | None) -> int:
        """The codes of all codebooks; of the full size if the number of documents is unknown."""
        size, _ = self.codebook_size(options, _MANY if documents is None else documents)
        return FIRST_CODE + options.levels * size

    @abstractmethod
    def quantizer(self, dimensions: int, levels: int, bits: int) -> Any:
        """Returns an untrained faiss quantizer.

        Args:
            dimensions: Dimensions of the vectors, a multiple of `levels`.
            levels: Number of codebooks.
            bits: A codebook has 2^bits codes.
        """

    def rotation(
        self, vectors: npt.NDArray[np.float32], options: Any, size: int, seed: int
    ) -> npt.NDArray[np.float32]:
        """Returns the matrix that vectors are multiplied by before quantization; none by default.

        Args:
            vectors: float32 [documents, dimensions].
            options: An instance of `Options`.
            size: Codes in a codebook.
            seed: Seed of everything random.

        Returns:
            float32 [dimensions, dimensions], or an empty array to leave the vectors unchanged.
        """
        return np.empty((0, 0), np.float32)

    def quantized(
        self, vectors: npt.NDArray[np.float32], options: Any, size: int, seed: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Trains the codebooks and encodes the documents.

        Args:
            vectors: Rotated; float32 [documents, dimensions].
            options: An instance of `Options`.
            size: Codes in a codebook.
            seed: Seed of everything random.

        Returns:
            The codebooks as faiss stores them, float32, flat; and the codes, int64 [documents,
            levels].
        """
        import faiss

        bits = size.bit_length() - 1
        quantizer = self.quantizer(vectors.shape[1], options.levels, bits)
        quantizer.cp.seed = int(np.random.default_rng([seed, 11]).integers(2**31))
        quantizer.cp.niter = options.iterations
        quantizer.cp.min_points_per_centroid = 1
        with one_thread():
            quantizer.train(training_points(vectors, size, seed))
        books = faiss.vector_to_array(self.codebooks(quantizer)).astype(np.float32)
        return books, _encode(quantizer, vectors, options.levels, bits)

    @abstractmethod
    def codebooks(self, quantizer: Any) -> Any:
        """Returns the faiss vector that holds the codebooks of a quantizer."""

    @abstractmethod
    def in_full(
        self, books: npt.NDArray[np.float32], levels: int, size: int, dimensions: int
    ) -> npt.NDArray[np.float32]:
        """Returns codebooks in all dimensions, with 0 in those that a code does not cover.

        Args:
            books: The codebooks as faiss stores them; float32, flat.
            levels: Number of codebooks.
            size: Codes in a codebook.
            dimensions: Dimensions of the vectors.

        Returns:
            float32 [levels, size, dimensions].
        """

    def build(self, documents: Documents, options: QuantizationOptions, seed: int) -> Built:
        """Trains the codebooks, on a sample of a large corpus, and encodes the documents.

        Raises:
            InputError: A codebook has collapsed.
        """
        vectors = _padded(documents.vectors, options.levels)
        size, notes = self.codebook_size(options, len(vectors))
        rotation = self.rotation(vectors, options, size, seed)
        vectors = vectors @ rotation if len(rotation) else vectors
        books, codes = self.quantized(vectors, options, size, seed)
        refuse_collapse(
            codes,
            size,
            vectors,
            least=options.least_use,
            option=f"--{self.name}.least_use",
        )
        table, numbered = table_of_codes(
            documents.doc_ids, codes, size, kind=self.name, options=options
        )
        shape = np.array([vectors.shape[1], options.levels, size.bit_length() - 1])
        extras = {"codebooks": books, "shape": shape, "rotation": rotation}
        return Built(table, extras, numbered, notes=notes, codebooks=[size] * options.levels)

    def extend(self, built: Built, documents: Documents, seed: int) -> Built:
        """Encodes new documents with the existing codebooks.

        Raises:
            InputError: The identifiers were saved without their codebooks, or the vectors do not
                match their dimensions.
        """
        import faiss

        options = self.Options(**built.table.options)
        books, rotation, (dimensions, levels, bits) = _stored_quantizer(built)
        vectors = _padded(documents.vectors, levels)
        if vectors.shape[1] != dimensions:
            raise InputError(
                f"the document vectors have {vectors.shape[1]} dimensions, but the codebooks have "
                f"{dimensions}",
                hint="Use the embedding model that the identifiers were assigned with",
            )
        vectors = vectors @ rotation if len(rotation) else vectors
        quantizer = self.quantizer(dimensions, levels, bits)
        faiss.copy_array_to_vector(np.array(books), self.codebooks(quantizer))
        quantizer.is_trained = True
        codes = _encode(quantizer, vectors, levels, bits)
        table, numbered = append_codes(
            built.table, documents.doc_ids, codes, 1 << bits, options.collisions
        )
        return Built(table, built.extras, numbered)

    def codewords(self, built: Built, dimensions: int) -> npt.NDArray[np.float32]:
        """Returns the codeword of each code, in the space of the document vectors.

        The codewords of a document add up to its vector, up to the quantization error.

        Args:
            built: What `build` or `extend` returned.
            dimensions: Dimensions of the document vectors.

        Returns:
            The codes of the first level, then those of the second, ...; float32
            [levels * size, dimensions]. The first is of the code `FIRST_CODE`.

        Raises:
            InputError: The identifiers were saved without their codebooks.
        """
        books, rotation, (padded, levels, bits) = _stored_quantizer(built)
        full = self.in_full(np.asarray(books), levels, 1 << bits, padded).reshape(-1, padded)
        return (full @ rotation.T if len(rotation) else full)[:, :dimensions]


def _stored_quantizer(
    built: Built,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], tuple[int, int, int]]:
    """Returns codebooks, rotation, and (dimensions, levels, bits).

    Raises:
        InputError: The identifiers were saved without their codebooks.
    """
    try:
        books, rotation, shape = (built.extras[name] for name in ("codebooks", "rotation", "shape"))
    except KeyError as error:
        raise InputError(
            f"the stored identifiers have no codebooks ({error.args[0]!r} is missing)",
            hint="Assign them again",
        ) from None
    dimensions, levels, bits = shape.tolist()
    return books, rotation, (dimensions, levels, bits)


def _padded(vectors: npt.NDArray[np.float32], levels: int) -> npt.NDArray[np.float32]:
    """Pads vectors with zeros to a multiple of `levels` dimensions."""
    documents, dimensions = vectors.shape
    width = -(-max(dimensions, 1) // levels) * levels
    padded = np.zeros((documents, width), np.float32)
    padded[:, :dimensions] = vectors
    return padded


def training_points(
    vectors: npt.NDArray[np.float32], size: int, seed: int
) -> npt.NDArray[np.float32]:
    """Samples a large corpus, and repeats a tiny one, to at least `size` points."""
    most = size * _TRAINING_POINTS_PER_CODE
    if len(vectors) > most:
        sampled = np.random.default_rng([seed, 12]).choice(len(vectors), most, replace=False)
        return vectors[np.sort(sampled)]
    if not len(vectors):
        return np.zeros((size, vectors.shape[1]), np.float32)
    return np.concatenate([vectors] * -(-size // len(vectors)))


def _encode(
    quantizer: Any, vectors: npt.NDArray[np.float32], levels: int, bits: int
) -> npt.NDArray[np.int64]:
    """Returns the codes of vectors; int64 [vectors, levels]."""
    import faiss

    def parts() -> Iterator[npt.NDArray[np.int64]]:
        starts = range(0, len(vectors), _CHUNK)
        for start in track(starts, "codes") if len(starts) > 1 else starts:
            packed = quantizer.compute_codes(vectors[start : start + _CHUNK])
            yield faiss.unpack_bitstrings(packed, levels, bits).astype(np.int64)

    return np.concatenate([np.empty((0, levels), np.int64), *parts()])
