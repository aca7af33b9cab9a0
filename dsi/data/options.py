"""Options of the data mix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from data_prep.checks import Options
from data_prep.errors import InputError
from data_prep.evidence import Chains
from data_prep.marks import Advanced, Count, Excludes, Needs, NotNegative, Whole


@dataclass(frozen=True)
class MixOptions(Options, group="mix"):
    """The composition of a batch: three shares, of which only the proportions count."""

    indexing: NotNegative = 0.0
    """Proportion of the indexing task (document text to identifier)"""
    pseudo: NotNegative = 0.85
    """Proportion of pseudo-queries"""
    labeled: NotNegative = 0.15
    """Proportion of labeled training queries; given to pseudo-queries if there are none"""
    ratio: Advanced[
        Annotated[NotNegative | None, Excludes("indexing", "both set the proportion of indexing")]
    ] = None
    """Indexing-to-retrieval ratio r of DSI (32 in the paper); replaces --mix.indexing"""
    document_length: Advanced[Count] = 64
    """Tokens of a document that the indexing task reads, from the start"""
    chunks: Advanced[Whole] = 0
    """Random chunks of each document that the indexing task reads in addition"""
    query_length: Advanced[Count] = 32
    """Maximum tokens of a query, in training and in search, without the encoder's prompt"""
    negatives: Advanced[Literal["labeled", "all"]] = "labeled"
    """Candidate identifiers in the softmax for labeled queries. labeled: only documents that have
    labeled queries, so that the others are not pushed down"""

    chains: Advanced[Annotated[Chains, Needs("labeled")]] = "none"
    """Labeled queries with several relevant documents, for dsi search --hops. none: the query leads
    to each; ordered: to the first, and with sentences of the documents before it to the next;
    unordered: to each, and with a sentence of it to the others"""

    def conflicts(self) -> None:
        """Refuses shares that are all 0."""
        if self.ratio is not None and not (self.pseudo or self.labeled):
            raise InputError(
                f"--mix.ratio {self.ratio} has no effect if --mix.pseudo and --mix.labeled are 0",
                hint="Set one of them above 0, or use --mix.indexing 1 instead of the ratio",
            )
        if not (self.indexing or self.pseudo or self.labeled):
            raise InputError(
                "--mix.indexing, --mix.pseudo and --mix.labeled are all 0",
                hint="Set at least one of them above 0",
            )

    @property
    def reads_documents(self) -> bool:
        """Whether the indexing task has a share."""
        return bool(self.proportions["indexing"])

    @property
    def proportions(self) -> dict[str, float]:
        """The share of each task, including the ratio; only the proportions count."""
        indexing = self.indexing
        if self.ratio is not None:
            indexing = self.ratio * (self.pseudo + self.labeled)
        return {"indexing": indexing, "pseudo": self.pseudo, "labeled": self.labeled}
