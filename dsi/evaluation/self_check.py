"""Whether an index finds its own documents: a first figure, which needs no labelled query."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dsi import versions
from dsi.evaluation.probe import Probe
from dsi.index import Index
from dsi.stored_corpus import StoredCorpus

QUERIES = 200
"""How many queries are asked at most."""
DEPTH = 10
"""Among how many answers a document must be."""
FEWEST_FOUND = 0.3
"""The share of found documents below which a training has failed, rather than fallen short."""


@dataclass(frozen=True)
class SelfCheck:
    """What came of it.

    Attributes:
        source: "dev" for labelled queries, "pseudo" for keywords of the documents themselves,
            where there are none.
        queries: How many were asked.
        found: The share whose document is among the first ten answers.
    """

    source: str
    queries: int
    found: float

    def __str__(self) -> str:
        asked = "dev queries" if self.source == "dev" else "keyword queries of documents"
        return f"{self.found:.3f} of {self.queries} {asked}"

    @property
    def failed(self) -> bool:
        """Whether so few are found that the index is of no use."""
        return self.found < FEWEST_FOUND


def check_itself(folder: Path, seed: int = 0) -> SelfCheck | None:
    """Asks an index for documents that it has, drawn at random.

    Args:
        folder: The index.
        seed: Of the choice.

    Returns:
        What came of it; None where nothing can be asked, as of documents without words.
    """
    index = Index.open(folder)
    memory = StoredCorpus.open(versions.folder(folder, index.manifest.version))
    probe = Probe.of(memory, without=(), most=QUERIES, seed=seed)
    if not probe.texts:
        return None
    answers = index.search(probe.texts, k=min(DEPTH, len(index)))
    found = sum(
        doc_id in [hit.doc_id for hit in hits]
        for doc_id, hits in zip(probe.doc_ids, answers, strict=True)
    )
    return SelfCheck(probe.source, len(probe.texts), found / len(probe.texts))
