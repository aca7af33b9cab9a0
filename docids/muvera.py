"""Fixed-dimensional encodings of sets of token vectors (MUVERA).

Queries and documents have one vector per token; their Chamfer similarity (MaxSim) is

    Chamfer(Q, P) = sum over q in Q of max over p in P of <q, p>

An encoding maps such a set to one vector, so that <F_q(Q), F_doc(P)> approximates Chamfer(Q, P).
Random hyperplanes cut the space into 2^bits partitions (SimHash). In each, a query has the sum of
its vectors, a document the mean; a document without a vector there has the one whose sign bits
differ least, the first of several. A random projection shortens the vectors of a partition. All of
it is repeated with other hyperplanes; a last projection may shorten the whole (count sketch).

Dhulipala et al., MUVERA, NeurIPS 2024, arXiv 2405.19504, section 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from data_prep.checks import Options
from data_prep.errors import InputError
from data_prep.marks import Advanced, Count, Range, Whole
from data_prep.progress import track

_CELLS = 1 << 22
"""Pairs of partitions that are compared at a time, to fill empty ones."""
_QUERY_TOKENS, _DOCUMENT_TOKENS = 1 << 10, 1 << 14
"""Tokens of queries and of documents that are compared at a time: 64 MiB of similarities."""


@dataclass(frozen=True)
class MuveraOptions(Options, group="embedding"):
    """The size of the encodings."""

    bits: Advanced[Annotated[int, Range(ge=1, le=10)]] = 4
    """Hyperplanes of muvera: 2^bits partitions"""
    projection: Advanced[Count] = 16
    """Dimensions that muvera keeps in each partition"""
    repetitions: Advanced[Count] = 20
    """Repetitions of muvera, with other hyperplanes"""
    final: Advanced[Whole] = 1024
    """Dimensions of the whole encoding of muvera; 0 for all: repetitions x 2^bits x projection"""


@dataclass(frozen=True)
class TokenVectors:
    """The token vectors of several texts, one text after another.

    Attributes:
        vectors: Floating [tokens, width].
        offsets: Text i has the rows offsets[i] to offsets[i + 1] - 1; int64 [texts + 1].
    """

    vectors: npt.NDArray[np.floating]
    offsets: npt.NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[npt.NDArray[np.floating]], width: int) -> TokenVectors:
        """Joins the token vectors of several texts, each [tokens, width]."""
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(text) for text in texts], out=offsets[1:])
        empty = np.empty((0, width), texts[0].dtype if len(texts) else np.float32)
        return cls(np.concatenate([empty, *texts]), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> npt.NDArray[np.floating]:
        return self.vectors[self.offsets[row] : self.offsets[row + 1]]


@dataclass(frozen=True)
class Muvera:
    """The random directions of an encoding; `queries` and `documents` apply them.

    Attributes:
        planes: Normals of the hyperplanes; float32 [repetitions, width, bits].
        inner: The projections inside partitions; float32 [repetitions, width, projection].
        bucket: The final dimension of each dimension; int64 [repetitions * 2^bits * projection], or
            empty without a final projection.
        sign: Its sign there, 1 or -1; float32, of the same shape.
        final: Number of final dimensions; 0 without a final projection.
    """

    planes: npt.NDArray[np.float32]
    inner: npt.NDArray[np.float32]
    bucket: npt.NDArray[np.int64]
    sign: npt.NDArray[np.float32]
    final: int

    @classmethod
    def draw(cls, width: int, options: MuveraOptions, seed: int) -> Muvera:
        """Draws the directions.

        Where `options.projection` is at least the width, and where `options.final` is at least the
        number of dimensions, there is no projection.

        Args:
            width: Dimensions of a token vector.
            options: The size.
            seed: The same arguments give the same directions.
        """
        rng = np.random.default_rng([seed, 20])
        times, bits = options.repetitions, options.bits
        planes = rng.standard_normal((times, width, bits)).astype(np.float32)
        projected = min(options.projection, width)
        if projected < width:
            signs = rng.choice([-1.0, 1.0], size=(times, width, projected))
            inner = (signs * projected**-0.5).astype(np.float32)
        else:
            inner = np.broadcast_to(np.eye(width, dtype=np.float32), (times, width, width)).copy()
        total = times * (1 << bits) * projected
        final = options.final if options.final < total else 0
        size = total if final else 0
        bucket = rng.integers(max(final, 1), size=size)
        sign = rng.choice([-1.0, 1.0], size=size).astype(np.float32)
        return cls(planes, inner, bucket, sign, final)

    @property
    def dimensions(self) -> int:
        """Dimensions of an encoding."""
        times, _, bits = self.planes.shape
        return self.final or times * (1 << bits) * self.inner.shape[2]

    def queries(self, tokens: TokenVectors) -> npt.NDArray[np.float32]:
        """Encodes queries: sums; divided by the repetitions, so that products are similarities.

        Args:
            tokens: Their token vectors, of norm 1.

        Returns:
            float32 [queries, dimensions]; 0 for a query without tokens.
        """
        return self._encode(tokens, documents=False) / np.float32(len(self.planes))

    def documents(self, tokens: TokenVectors) -> npt.NDArray[np.float32]:
        """Encodes documents: means, with empty partitions filled.

        Args:
            tokens: Their token vectors, of norm 1.

        Returns:
            float32 [documents, dimensions]; 0 for a document without tokens.
        """
        return self._encode(tokens, documents=True)

    def _encode(self, tokens: TokenVectors, *, documents: bool) -> npt.NDArray[np.float32]:
        times, width, bits = self.planes.shape
        if tokens.vectors.shape[1] != width:
            raise InputError(
                f"the token vectors have {tokens.vectors.shape[1]} dimensions, but the encoding "
                f"expects {width}",
                hint="Use the encoder that the encoding was created for",
            )
        block = (1 << bits) * self.inner.shape[2]
        encoded = np.zeros((len(tokens), self.dimensions), np.float32)
        vectors = tokens.vectors.astype(np.float32, copy=False)
        for time in range(times):
            codes = (vectors @ self.planes[time] > 0) @ (1 << np.arange(bits))
            projected = vectors @ self.inner[time]
            parts = _sums(projected, codes, tokens.offsets, 1 << bits, means=documents)
            if documents:
                _fill(parts, projected, codes, tokens.offsets, bits)
            flat = parts.reshape(len(tokens), block)
            place = slice(time * block, (time + 1) * block)
            if self.final:
                encoded += _sketch(flat, self.bucket[place], self.sign[place], self.final)
            else:
                encoded[:, place] = flat
        return encoded

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the directions as arrays to store."""
        return {
            "planes": self.planes,
            "inner": self.inner,
            "bucket": self.bucket,
            "sign": self.sign,
            "final": np.array([self.final]),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Muvera:
        """Restores the directions from `arrays`.

        Raises:
            InputError: They are inconsistent, not finite, or more than `MuveraOptions` allow.
            KeyError: One is missing.
        """
        planes, inner = arrays["planes"], arrays["inner"]
        bucket, sign, finals = arrays["bucket"], arrays["sign"], arrays["final"]
        for name, array in (("planes", planes), ("inner", inner)):
            fits = array.ndim == 3 and array.dtype == np.float32 and min(array.shape) > 0
            if not fits or array.shape[:2] != planes.shape[:2]:
                raise InputError(f"{name} is {array.dtype} {list(array.shape)}")
        if finals.shape != (1,) or finals.dtype.kind not in "iu" or finals[0] < 0:
            raise InputError("the number of final dimensions is not a whole number")
        final, (times, _, bits), projection = int(finals[0]), planes.shape, inner.shape[2]
        MuveraOptions(repetitions=times, bits=bits, projection=projection, final=final)
        total = times * (1 << bits) * projection
        if final >= total:
            raise InputError(f"{final} final dimensions of {total}")
        size = total if final else 0
        if bucket.shape != (size,) or bucket.dtype.kind not in "iu" or sign.shape != (size,):
            raise InputError(f"{bucket.shape} final dimensions and {sign.shape} signs")
        if size and not 0 <= bucket.min() <= bucket.max() < final:
            raise InputError(f"a dimension is beyond the {final} final dimensions")
        if sign.dtype != np.float32 or not (np.abs(sign) == 1).all():
            raise InputError("a sign is neither 1 nor -1")
        if not (np.isfinite(planes).all() and np.isfinite(inner).all()):
            raise InputError("a direction is not finite")
        return cls(planes, inner, bucket, sign, final)


def _sums(
    projected: npt.NDArray[np.float32],
    codes: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    partitions: int,
    *,
    means: bool,
) -> npt.NDArray[np.float32]:
    """Returns the sum or mean of the vectors in each partition; [texts, partitions, projection]."""
    import scipy.sparse as sparse

    texts = len(offsets) - 1
    owners = np.repeat(np.arange(texts), np.diff(offsets))
    cell = owners * partitions + codes
    weights = np.ones(len(cell), np.float32)
    if means:
        weights /= np.bincount(cell, minlength=texts * partitions)[cell].astype(np.float32)
    shape = (texts * partitions, len(cell))
    matrix = sparse.csr_matrix((weights, (cell, np.arange(len(cell)))), shape=shape)
    summed = np.asarray(matrix @ projected, np.float32)
    return summed.reshape(texts, partitions, projected.shape[1])


def _fill(
    parts: npt.NDArray[np.float32],
    projected: npt.NDArray[np.float32],
    codes: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    bits: int,
) -> None:
    """Fills the empty partitions of documents that have tokens, in place."""
    texts, partitions = parts.shape[:2]
    owners = np.repeat(np.arange(texts), np.diff(offsets))
    # The first token of each partition; beyond all where there is none.
    none = len(codes)
    first = np.full((texts, partitions), none, np.int64)
    np.minimum.at(first, (owners, codes), np.arange(none))
    numbers = np.arange(partitions)
    differing = np.bitwise_count(numbers[:, None] ^ numbers).astype(np.int64)
    step = max(1, _CELLS // partitions**2)
    for start in range(0, texts, step):
        chunk = first[start : start + step]
        text, empty = np.nonzero((chunk == none) & (chunk.min(axis=1) < none)[:, None])
        # By differing bits, then by the place in the text.
        order = differing[empty] * (none + 1) + chunk[text]
        order[chunk[text] == none] = np.iinfo(np.int64).max
        nearest = chunk[text, order.argmin(axis=1)]
        parts[start + text, empty] = projected[nearest]


def _sketch(
    flat: npt.NDArray[np.float32],
    bucket: npt.NDArray[np.int64],
    sign: npt.NDArray[np.float32],
    final: int,
) -> npt.NDArray[np.float32]:
    """Returns the signed sums of the dimensions in each bucket; float32 [texts, final]."""
    import scipy.sparse as sparse

    matrix = sparse.csr_matrix((sign, (bucket, np.arange(len(bucket)))), shape=(final, len(bucket)))
    return np.ascontiguousarray((matrix @ flat.T).T, np.float32)


def chamfer(
    query: npt.NDArray[np.floating], documents: TokenVectors, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Returns the exact Chamfer similarity of a query to some documents.

    Args:
        query: Token vectors; [tokens, width].
        documents: Token vectors of all documents.
        rows: Which documents; int64 [rows].

    Returns:
        float32 [rows]; 0 for a document or a query without tokens.
    """
    scores = np.zeros(len(rows), np.float32)
    lengths = np.diff(documents.offsets)[rows]
    some = np.flatnonzero(lengths)
    if not len(some) or not len(query):
        return scores
    tokens = np.concatenate([documents[row] for row in rows[some].tolist()]).astype(np.float32)
    starts = np.cumsum(lengths[some]) - lengths[some]
    similar = query.astype(np.float32) @ tokens.T
    scores[some] = np.maximum.reduceat(similar, starts, axis=1).sum(axis=0)
    return scores


def chamfer_matrix(
    queries: TokenVectors, documents: TokenVectors, description: str | None = None
) -> npt.NDArray[np.float32]:
    """Returns the exact Chamfer similarity of every query to every document.

    Products are computed in blocks of whole texts, so that memory does not grow with the corpus.

    Args:
        queries: Token vectors of queries.
        documents: Token vectors of documents.
        description: Label of a progress bar; None for no bar.

    Returns:
        float32 [queries, documents]; 0 where either text has no tokens.
    """
    scores = np.zeros((len(queries), len(documents)), np.float32)
    query_blocks = list(_blocks(queries.offsets, _QUERY_TOKENS))
    blocks: Sequence[npt.NDArray[np.int64]] = list(_blocks(documents.offsets, _DOCUMENT_TOKENS))
    for block in blocks if description is None else track(blocks, description):
        tokens = _tokens(documents, block)
        starts = documents.offsets[block] - documents.offsets[block[0]]
        for rows in query_blocks:
            nearest = np.maximum.reduceat(_tokens(queries, rows) @ tokens.T, starts, axis=1)
            firsts = queries.offsets[rows] - queries.offsets[rows[0]]
            scores[np.ix_(rows, block)] = np.add.reduceat(nearest, firsts, axis=0)
    return scores


def _blocks(offsets: npt.NDArray[np.int64], most: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yields the numbers of texts that have tokens, in blocks of about `most` tokens."""
    rows = np.flatnonzero(np.diff(offsets))
    number = offsets[rows] // most
    yield from (part for part in np.split(rows, np.flatnonzero(np.diff(number)) + 1) if len(part))


def _tokens(texts: TokenVectors, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Returns the token vectors from the first to the last of some texts."""
    return texts.vectors[texts.offsets[rows[0]] : texts.offsets[rows[-1] + 1]].astype(np.float32)
