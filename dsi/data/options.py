"""Options of the data mix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from data_prep.checks import check_choices, check_numbers
from data_prep.errors import InputError
from data_prep.marks import Advanced


@dataclass(frozen=True)
class MixOptions:
    """The composition of a batch: three shares, of which only the proportions count."""

    indexing: float = 0.0
    """Share of the indexing task (document text to identifier)"""
    pseudo: float = 0.85
    """Share of pseudo-queries"""
    labelled: float = 0.15
    """Share of labeled training queries; given to pseudo-queries if there are none"""
    ratio: Advanced[float | None] = None
    """Indexing-to-retrieval ratio r of DSI (32 in the paper); replaces --mix.indexing"""
    document_length: Advanced[int] = 64
    """Tokens of a document that the indexing task reads, from the start"""
    chunks: Advanced[int] = 0
    """Random chunks of each document that the indexing task reads in addition"""
    query_length: Advanced[int] = 32
    """Maximum tokens of a query, in training and in search, without the encoder's prompt"""
    negatives: Advanced[Literal["labelled", "all"]] = "labelled"
    """Candidate identifiers in the softmax for labeled queries. labelled: only documents that have
    labeled queries, so that the others are not pushed down"""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            "mix",
            not_negative=("indexing", "pseudo", "labelled", "ratio", "chunks"),
            at_least_one=("document_length", "query_length"),
        )
        check_choices(self, "mix")
        if self.ratio is not None and self.indexing:
            raise InputError(
                f"--mix.ratio {self.ratio} and --mix.indexing {self.indexing} both set the "
                "proportion of indexing",
                hint="Omit one of them",
            )
        if self.ratio is not None and not (self.pseudo or self.labelled):
            raise InputError(
                f"--mix.ratio {self.ratio} of --mix.pseudo 0 and --mix.labelled 0 is nothing",
                hint="Give queries a share, or --mix.indexing 1 in place of the ratio",
            )
        if not (self.indexing or self.pseudo or self.labelled):
            raise InputError(
                "--mix.indexing, --mix.pseudo and --mix.labelled are all 0",
                hint="Give one of them a share",
            )

    @property
    def proportions(self) -> dict[str, float]:
        """The share of each task, including the ratio; only the proportions count."""
        indexing = self.indexing
        if self.ratio is not None:
            indexing = self.ratio * (self.pseudo + self.labelled)
        return {"indexing": indexing, "pseudo": self.pseudo, "labelled": self.labelled}
