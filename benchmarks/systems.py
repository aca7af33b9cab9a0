"""Systems that the effectiveness benchmark compares by what they are trained on.

All of them have the latent model with its warm start, the same batches and the same number of
updates; only what the examples are made of differs. Identifiers are atomic but where a name begins
with another kind: these are searched without the constraint too, which an atomic identifier, one
code of its own, does not need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsi.indexing.options import TrainingOptions

LABELED = 0.15
"""Share of labeled queries where there are others besides."""
PSEUDO_QUERIES = (1, 5, 20, 100)
"""Pseudo-queries a document whose effect is measured."""


def _rehearsing(**contents: Any) -> Callable[[TrainingOptions], TrainingOptions]:
    """SE-DSI's setting: contents and labeled queries, without pseudo-queries."""

    def of(options: TrainingOptions) -> TrainingOptions:
        mix = replace(options.mix, indexing=1 - LABELED, pseudo=0.0, labeled=LABELED)
        rehearsal = replace(options.rehearsal, **{"style": "summary", **contents})
        return replace(options, generator="none", mix=mix, rehearsal=rehearsal)

    return of


def _ingredients(
    *,
    indexing: float = 0.0,
    pseudo: float = 0.0,
    labeled: float = 0.0,
    chunks: int = 0,
    per_doc: int = 40,
    generator: str = "selective",
    docids: str = "atomic",
) -> Callable[[TrainingOptions], TrainingOptions]:
    """The scaling study's setting: any of its ingredients, in equal parts unless said."""

    def of(options: TrainingOptions) -> TrainingOptions:
        mix = replace(options.mix, indexing=indexing, pseudo=pseudo, labeled=labeled, chunks=chunks)
        made = generator if pseudo else "none"
        return replace(options, docids=docids, generator=made, per_doc=per_doc, mix=mix)

    return of


SEQUENCES = ("semantic", "naive", "description")
"""Kinds of several codes, with which decoding may leave the documents."""
BOTH = {"document": 1.0, "passages": 1.0, "sentences": 1.0}
SYSTEMS: dict[str, Callable[[TrainingOptions], TrainingOptions]] = {
    "rehearse-document": _rehearsing(),
    "rehearse-sentences": _rehearsing(document=0.0, sentences=1.0),
    "rehearse-passages": _rehearsing(document=0.0, passages=1.0),
    "rehearse-document+sentences": _rehearsing(sentences=1.0),
    "rehearse-document+passages": _rehearsing(passages=1.0),
    "rehearse-all-summary": _rehearsing(**BOTH),
    "rehearse-all-leading": _rehearsing(**BOTH, style="leading"),
    "rehearse-all-random": _rehearsing(**BOTH, style="random"),
    "rehearse-tokens": _rehearsing(document=0.0, tokens=1.0),
    "labelled": _ingredients(labeled=1.0),
    "first-tokens": _ingredients(indexing=1.0),
    "first-tokens+chunks": _ingredients(indexing=1.0, chunks=10),
    "first-tokens+chunks+labelled": _ingredients(indexing=1.0, chunks=10, labeled=1.0),
    **{f"pseudo-{count}": _ingredients(pseudo=1.0, per_doc=count) for count in PSEUDO_QUERIES},
    "pseudo-40+labelled": _ingredients(pseudo=1 - LABELED, labeled=LABELED),
    **{
        f"{kind}-pseudo-40+labelled": _ingredients(pseudo=1 - LABELED, labeled=LABELED, docids=kind)
        for kind in SEQUENCES
    },
    "everything": _ingredients(indexing=1.0, chunks=10, pseudo=1.0, labeled=1.0),
    **{
        f"queries-{name}": _ingredients(
            pseudo=1 - LABELED, labeled=LABELED, per_doc=10, generator=name
        )
        for name in ("extractive", "selective", "memory", "seq2seq")
    },
}
"""Name -> what it changes in the options."""

SUITES = {
    "rehearsal": [name for name in SYSTEMS if name.startswith("rehearse-")],
    "ingredients": [name for name in SYSTEMS if not name.startswith(("rehearse-", "queries-"))],
    "generators": [name for name in SYSTEMS if name.startswith("queries-")],
}
"""Suite -> the systems it is made of."""
