"""Residual codebooks whose codes are used equally often: k-means with balanced clusters."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from docids.kinds.clustering import one_thread

_ROUNDS = 6
"""Balanced assignments, each followed by new centroids, after ordinary k-means."""
_SINKHORN_ROUNDS = 30
_TEMPERATURE = 0.05
"""Temperature of the soft assignment, relative to the mean distance beyond the nearest centroid."""
_CHUNK = 50_000
"""Vectors balanced at a time; bounds the working memory."""
_SMALLEST = 1e-30


def balanced_labels(distances: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Assigns each row to a column, all columns equally often, with a low total distance.

    Sinkhorn iterations (Cuturi, NeurIPS 2013) find a price of each column at which the soft
    assignment is balanced. Rows take the cheapest column; the few rows in excess of a column's
    capacity move to where that costs least.

    Args:
        distances: float32 [rows, columns].

    Returns:
        int64 [rows]; a column has rows / columns rows, rounded down or up.
    """
    rows, columns = distances.shape
    if not rows:
        return np.empty(0, np.int64)
    excess = distances - distances.min(axis=1, keepdims=True)
    scale = max(_TEMPERATURE * float(excess.mean()), _SMALLEST)
    kernel = np.exp(-excess / scale)
    weight = np.ones(columns, np.float32)
    for _ in range(_SINKHORN_ROUNDS):
        share = 1 / np.maximum(kernel @ weight, _SMALLEST)
        weight = (rows / columns) / np.maximum(share @ kernel, _SMALLEST)
    costs = excess - scale * np.log(np.maximum(weight, _SMALLEST))
    labels = costs.argmin(axis=1)
    _empty_overfull(labels, costs, -(-rows // columns))
    _fill_underfull(labels, costs, rows // columns)
    return labels


def _empty_overfull(
    labels: npt.NDArray[np.int64], costs: npt.NDArray[np.float32], most: int
) -> None:
    """Moves rows of columns that have more than `most` to columns that have fewer, in place."""
    columns = costs.shape[1]
    while (counts := np.bincount(labels, minlength=columns)).max() > most:
        free = np.flatnonzero(counts < most)
        moving = np.flatnonzero(counts[labels] > most)
        target = free[costs[np.ix_(moving, free)].argmin(axis=1)]
        regret = costs[moving, target] - costs[moving, labels[moving]]
        order = np.argsort(regret, kind="stable")
        moving, target = moving[order], target[order]
        leaving = _place_in_group(labels[moving]) < (counts - most)[labels[moving]]
        moving, target = moving[leaving], target[leaving]
        has_room = _place_in_group(target) < (most - counts)[target]
        labels[moving[has_room]] = target[has_room]


def _fill_underfull(
    labels: npt.NDArray[np.int64], costs: npt.NDArray[np.float32], least: int
) -> None:
    """Moves rows of columns that have more than `least` to columns that have fewer, in place."""
    counts = np.bincount(labels, minlength=costs.shape[1])
    for column in np.flatnonzero(counts < least).tolist():
        while counts[column] < least:
            movable = np.flatnonzero(counts[labels] > least)
            regret = costs[movable, column] - costs[movable, labels[movable]]
            row = movable[regret.argmin()]
            counts[labels[row]] -= 1
            counts[column] += 1
            labels[row] = column


def _place_in_group(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns for each element how many earlier elements are equal; int64 [elements]."""
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    firsts = np.cumsum(sizes) - sizes
    places = np.empty(len(groups), np.int64)
    places[order] = np.arange(len(groups)) - firsts[groups[order]]
    return places


def balanced_codebooks(
    points: npt.NDArray[np.float32], levels: int, size: int, iterations: int, seed: int
) -> npt.NDArray[np.float32]:
    """Learns one codebook per level, each on the residuals that the levels before it leave.

    Args:
        points: At least `size` vectors; float32 [points, dimensions].
        levels: Number of codebooks.
        size: Codes in a codebook.
        iterations: k-means iterations per codebook, before it is balanced.
        seed: The same points and seed give the same codebooks.

    Returns:
        float32 [levels, size, dimensions].
    """
    residuals = np.array(points, np.float32)
    books = np.empty((levels, size, points.shape[1]), np.float32)
    for level in range(levels):
        book = _kmeans(residuals, size, iterations, seed + level)
        for _ in range(_ROUNDS):
            labels = _assigned(residuals, book)
            book = _means(residuals, labels, book)
        books[level] = book
        residuals -= book[_assigned(residuals, book)]
    return books


def balanced_codes(
    vectors: npt.NDArray[np.float32], books: npt.NDArray[np.float32]
) -> npt.NDArray[np.int64]:
    """Returns the codes of vectors, those of a level used equally often; int64 [vectors, levels].

    Args:
        vectors: float32 [vectors, dimensions].
        books: float32 [levels, size, dimensions].
    """
    residuals = np.array(vectors, np.float32)
    codes = np.empty((len(vectors), len(books)), np.int64)
    for level, book in enumerate(books):
        codes[:, level] = _assigned(residuals, book)
        residuals -= book[codes[:, level]]
    return codes


def _assigned(
    vectors: npt.NDArray[np.float32], centroids: npt.NDArray[np.float32]
) -> npt.NDArray[np.int64]:
    """Returns a balanced assignment, a chunk of vectors at a time; int64 [vectors]."""
    labels = np.empty(len(vectors), np.int64)
    norms = np.square(centroids).sum(axis=1)
    for start in range(0, len(vectors), _CHUNK):
        part = slice(start, start + _CHUNK)
        labels[part] = balanced_labels(norms - 2 * (vectors[part] @ centroids.T))
    return labels


def _means(
    vectors: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    before: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Returns the mean of each cluster, unchanged where it has no vectors."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=len(before))
    filled = np.flatnonzero(counts)
    firsts = (np.cumsum(counts) - counts)[filled]
    means = before.copy()
    sums = np.add.reduceat(vectors[order], firsts, axis=0)
    means[filled] = sums / counts[filled, None]
    return means


def _kmeans(
    points: npt.NDArray[np.float32], size: int, iterations: int, seed: int
) -> npt.NDArray[np.float32]:
    """Returns the centroids of ordinary k-means; float32 [size, dimensions]."""
    import faiss

    kmeans = faiss.Kmeans(
        points.shape[1],
        size,
        niter=iterations,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),
    )
    with one_thread():
        kmeans.train(np.ascontiguousarray(points))
    return np.array(kmeans.centroids, np.float32)
