"""Self-check of an index: whether it finds its own documents, without labeled queries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dsi.evaluation.probe import Probe
from dsi.index import Index
from dsi.index_folder import versions
from dsi.index_folder.stored_corpus import StoredCorpus

QUERIES = 200
"""Maximum number of queries."""
DEPTH = 10
"""Cutoff rank within which the document must be found."""
FEWEST_FOUND = 0.3
"""A training has failed if the fraction of found documents is below this."""


@dataclass(frozen=True)
class SelfCheck:
    """The result of a self-check.

    Attributes:
        source: "dev" for labeled queries, or "pseudo" for keywords of the documents if there are
            none.
        queries: Number of queries.
        found: Fraction of queries whose document is in the top ten.
    """

    source: str
    queries: int
    found: float

    def __str__(self) -> str:
        source = "dev queries" if self.source == "dev" else "keyword queries of documents"
        return f"{self.found:.3f} of {self.queries} {source}"

    @property
    def failed(self) -> bool:
        """Whether so few documents are found that the index is useless."""
        return self.found < FEWEST_FOUND


def run_self_check(folder: Path, seed: int = 0) -> SelfCheck | None:
    """Queries an index for a random sample of its own documents.

    Args:
        folder: The index.
        seed: Random seed.

    Returns:
        The result; None if there are no queries, for example for documents without words.
    """
    index = Index.open(folder)
    memory = StoredCorpus.open(versions.folder(folder, index.manifest.version))
    probe = Probe.of(memory, without=(), most=QUERIES, seed=seed)
    if not probe.texts:
        return None
    answers = index.search(probe.texts, k=min(DEPTH, len(index)))
    successes = sum(
        doc_id in [hit.doc_id for hit in hits]
        for doc_id, hits in zip(probe.doc_ids, answers, strict=True)
    )
    return SelfCheck(probe.source, len(probe.texts), successes / len(probe.texts))
