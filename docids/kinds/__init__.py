"""Docid kinds, by name: how documents get identifiers.

A kind is an object with a frozen dataclass `Options` and two methods: `build(documents, options,
seed)` gives identifiers to a whole corpus, `extend(built, documents, seed)` gives them to more
documents without changing one that was given before. Both return a `Built`: the table, and the
arrays ("extras") that the kind itself needs to go on. `documents` is a `Documents`: ids, texts,
and vectors that are computed when a kind first asks for them.

To add a kind, write one file here that registers an object in `KINDS`, and import it below.
"""

from docids.kinds import atomic, naive, random, semantic
from docids.kinds.base import KINDS, Built, Documents, Kind, NoOptions
from docids.kinds.tree import TreeOptions

__all__ = [
    "KINDS",
    "Built",
    "Documents",
    "Kind",
    "NoOptions",
    "TreeOptions",
    "atomic",
    "naive",
    "random",
    "semantic",
]
