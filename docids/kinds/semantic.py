"""Semantic identifiers: paths through hierarchical k-means (DSI, section 3.2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from docids.kinds.base import KINDS, Built, Documents, Kind
from docids.kinds.cluster_tree import TreeOptions, add_to_tree, build_tree
from docids.kinds.clustering import cluster, nearest


class Semantic(Kind):
    """Documents with similar vectors share the first codes of their identifiers.

    Tay et al., Transformer Memory as a Differentiable Search Index, arXiv 2202.06991.
    """

    Options = TreeOptions
    uses_vectors = True
    uses_new_codes = True

    def build(self, documents: Documents, options: TreeOptions, seed: int) -> Built:
        """Clusters the document vectors; inside a leaf, documents are numbered in order."""
        clusters = cluster(
            documents.vectors,
            branching=options.branching,
            capacity=options.leaf_capacity,
            iterations=options.iterations,
            seed=seed,
        )
        return build_tree(
            documents.doc_ids,
            clusters.parent,
            clusters.digit,
            clusters.leaf,
            kind="semantic",
            options=options,
            extras={"centroid": clusters.centroid},
        )

    def extend(self, built: Built, documents: Documents, seed: int) -> Built:
        """Sends each new document down the tree, to the nearest centroid at each step.

        No cluster is split: a leaf may grow beyond its capacity.

        Raises:
            InputError: The vectors do not match the dimensions of the centroids.
        """
        centroid, vectors = built.extras["centroid"], documents.vectors
        if vectors.shape[1] != centroid.shape[1]:
            raise InputError(
                f"the document vectors have {vectors.shape[1]} dimensions, but the clusters have "
                f"{centroid.shape[1]}",
                hint="Use the embedding model that the identifiers were assigned with",
            )
        return add_to_tree(
            built, documents.doc_ids, _descend(vectors, built.extras["parent"], centroid)
        )


def _descend(
    vectors: npt.NDArray[np.float32],
    parent: npt.NDArray[np.int32],
    centroid: npt.NDArray[np.float32],
) -> npt.NDArray[np.int64]:
    """Returns the leaf of each vector, descending to the nearest child at every step."""
    # Children are numbered breadth-first, so those of one cluster are adjacent.
    clusters = np.arange(len(parent))
    first = np.searchsorted(parent, clusters, side="left")
    last = np.searchsorted(parent, clusters, side="right")
    place = np.zeros(len(vectors), np.int64)
    while len(rows := np.flatnonzero(last[place] > first[place])):
        for inner in np.unique(place[rows]).tolist():
            at_node = rows[place[rows] == inner]
            place[at_node] = first[inner] + nearest(
                vectors[at_node], centroid[first[inner] : last[inner]]
            )
    return place


KINDS.register("semantic")(Semantic())
