"""Docid kinds, by name: how documents get identifiers.

A kind is an instance of a subclass of `Kind`, with a frozen dataclass `Options` and two methods:
`build(documents, options, seed)` gives identifiers to a whole corpus, `extend(built, documents,
seed)` gives them to more documents without changing one that was given before. Both return a
`Built`: the table, and the arrays ("extras") that the kind itself needs to go on. `documents` is a
`Documents`: ids, titles, texts, and vectors and pseudo-queries that are computed when a kind first
asks for them.

To add a kind, write one file here that registers an object in `KINDS`. What the rest of the toolkit
has to know of it are attributes of `Kind`.
"""

from __future__ import annotations

from data_prep.registry import import_entries
from docids.kinds.base import KINDS, Built, Documents, Kind, NoOptions, kinds_that
from docids.kinds.tree import TreeOptions

import_entries(__name__, __path__)

__all__ = ["KINDS", "Built", "Documents", "Kind", "NoOptions", "TreeOptions", "kinds_that"]
