"""Docid kinds, by name: the ways to assign identifiers to documents.

A kind is an instance of a subclass of `Kind`, with a frozen dataclass `Options` and two methods:
`build(documents, options, seed)` assigns identifiers to a whole corpus, `extend(built, documents,
seed)` assigns identifiers to more documents without changing existing ones. Both return a `Built`:
the table, and the arrays ("extras") that the kind needs to add more documents. `documents` is a
`Documents`: ids, titles, texts, and vectors and pseudo-queries that are computed when a kind first
asks for them.

To add a kind, write one file here that registers an object in `KINDS`. What the rest of the toolkit
needs to know about it is stated by the attributes of `Kind`.
"""

from __future__ import annotations

from data_prep.registry import import_entries
from docids.kinds.base import KINDS, Built, Documents, Kind, NoOptions, kinds_where
from docids.kinds.cluster_tree import TreeOptions

import_entries(__name__, __path__)

__all__ = ["KINDS", "Built", "Documents", "Kind", "NoOptions", "TreeOptions", "kinds_where"]
