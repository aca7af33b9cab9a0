"""Random identifiers: the control for semantic ones, with the same shape but no meaning."""

from __future__ import annotations

import numpy as np

from docids.kinds.base import KINDS, Built, Documents, Kind
from docids.kinds.cluster_tree import TreeOptions, add_to_tree, build_tree
from docids.kinds.clustering import cluster


class Random(Kind):
    """The tree that `semantic` builds from the same documents, which are then shuffled over it."""

    Options = TreeOptions
    options_of = "semantic"
    uses_vectors = True
    uses_new_codes = True
    uses_content = False

    def build(self, documents: Documents, options: TreeOptions, seed: int) -> Built:
        """Clusters the document vectors for the shape alone, then shuffles the documents."""
        clusters = cluster(
            documents.vectors,
            branching=options.branching,
            capacity=options.leaf_capacity,
            iterations=options.iterations,
            seed=seed,
        )
        rng = np.random.default_rng([seed, 0])
        return build_tree(
            documents.doc_ids,
            clusters.parent,
            clusters.digit,
            rng.permutation(clusters.leaf),
            kind="random",
            options=options,
            extras={},
        )

    def extend(self, built: Built, documents: Documents, seed: int) -> Built:
        """Sends each new document to a leaf drawn with probability proportional to its size."""
        issued = built.extras["issued"]
        rng = np.random.default_rng([seed, len(built.table)])
        total = int(issued.sum())
        # A table that began empty has one cluster, the root, and no sizes to weight by.
        issue_numbers = rng.integers(max(total, 1), size=len(documents))
        leaf = np.searchsorted(np.cumsum(issued), issue_numbers, side="right")
        return add_to_tree(built, documents.doc_ids, leaf if total else np.zeros_like(leaf))


KINDS.register("random")(Random())
