"""Hierarchical k-means: a tree of clusters over document vectors (DSI, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data_prep.progress import track

_POINTS_PER_CENTROID = 2048  # more points hardly improve k-means and take longer
_STARTS = 5  # k-means starts, of which the best is kept
_CHUNK = 100_000  # vectors compared with the centroids at a time
_WAVE = 256  # clusters split, on all threads, before the tree is extended


class Clusters(NamedTuple):
    """A tree of clusters, numbered breadth-first from the root, 0.

    Attributes:
        parent: The parent of each cluster, -1 for the root; int32 [clusters].
        digit: The position of each cluster among its siblings; int32 [clusters].
        centroid: float32 [clusters, dimensions]; zero for the root.
        leaf: The leaf cluster of each document; int32 [documents].
    """

    parent: npt.NDArray[np.int32]
    digit: npt.NDArray[np.int32]
    centroid: npt.NDArray[np.float32]
    leaf: npt.NDArray[np.int32]


def cluster(
    vectors: npt.NDArray[np.float32],
    *,
    branching: int,
    capacity: int,
    iterations: int,
    seed: int,
) -> Clusters:
    """Splits documents into clusters recursively, down to leaves.

    Empty clusters are dropped. Vectors that k-means cannot tell apart are split evenly in order, so
    that any number of equal vectors ends in leaves too.

    Args:
        vectors: float32 [documents, dimensions].
        branching: Maximum number of children of a cluster, at least 2.
        capacity: A cluster of at most this many documents is a leaf.
        iterations: Iterations of k-means at each split.
        seed: The same vectors and seed give the same clusters.
    """
    parents, digits = [-1], [0]
    centroids = [np.zeros((1, vectors.shape[1]), np.float32)]
    leaf = np.zeros(len(vectors), np.int32)
    waiting = [np.arange(len(vectors))]

    def waves() -> Iterator[list[tuple[int, np.ndarray]]]:
        """Yields the clusters that remain to be split, in batches."""
        number = 0
        while number < len(waiting):
            wave: list[tuple[int, np.ndarray]] = []
            while number < len(waiting) and len(wave) < _WAVE:
                members, waiting[number] = waiting[number], np.empty(0, np.int64)
                if len(members) > capacity:
                    wave.append((number, members))
                else:
                    leaf[members] = number
                number += 1
            yield wave

    def split(cluster: tuple[int, np.ndarray]) -> tuple[list[npt.NDArray[np.int64]], np.ndarray]:
        number, members = cluster
        return _split(vectors, members, branching, iterations, [seed, number])

    for wave in track(waves(), f"{_WAVE} clusters at a time"):
        for (number, _), (parts, centers) in zip(wave, _on_all_threads(split, wave), strict=True):
            centroids.append(centers)
            waiting.extend(parts)
            parents.extend([number] * len(parts))
            digits.extend(range(len(parts)))
    return Clusters(
        np.array(parents, np.int32), np.array(digits, np.int32), np.concatenate(centroids), leaf
    )


def _on_all_threads(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """Yields the results in the order of the items, from several threads.

    faiss runs single-threaded in each: sums are reproducible, and small splits are faster.
    """
    import faiss

    threads = faiss.omp_get_max_threads()
    with (
        one_thread(),
        ThreadPoolExecutor(threads, initializer=lambda: faiss.omp_set_num_threads(1)) as pool,
    ):
        yield from pool.map(function, items)


def nearest(
    vectors: npt.NDArray[np.float32], centroids: npt.NDArray[np.float32]
) -> npt.NDArray[np.int64]:
    """Returns the nearest centroid of each vector by Euclidean distance; int64 [vectors]."""
    bias = 0.5 * np.einsum("ij,ij->i", centroids, centroids)
    return np.argmax(vectors @ centroids.T - bias, axis=1)


def _split(
    vectors: npt.NDArray[np.float32],
    members: npt.NDArray[np.int64],
    branching: int,
    iterations: int,
    seed: list[int],
) -> tuple[list[npt.NDArray[np.int64]], npt.NDArray[np.float32]]:
    """Returns the non-empty parts of `members`, each in ascending order, and their centroids."""
    rng = np.random.default_rng(seed)
    parts = min(branching, len(members))
    sample = members
    if len(members) > parts * _POINTS_PER_CENTROID:
        sample = np.sort(rng.choice(members, parts * _POINTS_PER_CENTROID, replace=False))
    centroids = kmeans(vectors[sample], parts, iterations, int(rng.integers(2**31)))
    chunks = range(0, len(members), _CHUNK)
    labels = np.concatenate(
        [nearest(vectors[members[start : start + _CHUNK]], centroids) for start in chunks]
    )
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels, minlength=parts)
    filled = np.flatnonzero(sizes)
    if len(filled) == 1:
        center = vectors[sample].mean(axis=0, keepdims=True)
        return np.array_split(members, parts), np.repeat(center, parts, axis=0)
    return np.split(members[order], np.cumsum(sizes[filled])[:-1]), centroids[filled]


def kmeans(
    points: npt.NDArray[np.float32], parts: int, iterations: int, seed: int
) -> npt.NDArray[np.float32]:
    """Returns the centroids of `parts` clusters of at least as many points, from the best start.

    Args:
        points: float32 [points, dimensions].
        parts: Number of clusters; at most the number of points.
        iterations: Iterations from each start.
        seed: Seed of the starts.

    Returns:
        float32 [parts, dimensions].
    """
    import faiss

    kmeans = faiss.Kmeans(
        points.shape[1],
        parts,
        niter=iterations,
        nredo=_STARTS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),
    )
    kmeans.train(np.ascontiguousarray(points))
    return np.asarray(kmeans.centroids, np.float32)


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs faiss on one thread: sums are reproducible, and small splits are faster."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
