"""All search options except the beam width."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from data_prep.checks import Options, given, refuse_unread
from data_prep.errors import InputError
from data_prep.marks import Advanced, Count, Needs, PositiveShare, Whole


@dataclass(frozen=True)
class GuidanceOptions(Options, group="guidance"):
    """Search guidance: measures against losing the right document from the beam; off by default."""

    first_beams: Advanced[Count | None] = None
    """Beam width on the first levels"""
    first_levels: Advanced[Annotated[Count, Needs("first_beams")]] = 1
    """Number of levels with --guidance.first_beams"""
    starts: Advanced[Count] = 1
    """Minimum number of different first codes among the beams"""


@dataclass(frozen=True)
class HopOptions(Options, group="hops", switch="count"):
    """Retrieval in several hops: each reads sentences of the documents found before it."""

    count: Whole = 0
    """Maximum number of hops, each of which adds a document to a chain (short form: --hops 2); 0
    searches for single documents"""
    beams: Advanced[Count] = 3
    """Chains of documents that each hop continues"""
    sentences: Advanced[Count] = 8
    """Sentences of a document that the next hop reads, each as a continuation of its own"""
    stop: Literal["threshold", "verifier"] | None = None
    """Stop before the last hop. threshold: if the best next document is improbable; verifier: if a
    model finds the evidence sufficient. Default: never"""
    threshold: Advanced[Annotated[PositiveShare, Needs("stop")]] = 0.5
    """threshold: minimum probability of the next document; verifier: probability of sufficient
    evidence that ends the search"""
    verifier: Annotated[str | None, Needs("stop", ("verifier",))] = None
    """Entailment cross-encoder of transformers: hub id or folder"""

    def conflicts(self) -> None:
        """Refuses options of later hops for a single one, and to stop by no verifier."""
        if self.count == 1:
            refuse_unread(self, set(given(self)) - {"count"}, "with a single hop")
        if self.stop == "verifier" and self.verifier is None:
            raise InputError(
                "--hops.stop verifier needs a model",
                hint="Give an entailment cross-encoder: --hops.verifier NAME",
            )


@dataclass(frozen=True)
class SearchOptions(Options):
    """How to search an index.

    Attributes:
        score: The terms of a document's score: "model", the log-probabilities of its codes over the
            whole docid alphabet; "constrained", those over the codes that lead to a document, so
            that a code without an alternative costs nothing; None: the one the index was trained
            with.
        precision: "fp32"; "bf16": the products of linear layers in bfloat16, with weights in half
            the memory; without oneDNN, the whole model; or "int8": these products in 8-bit
            integers, on a CPU. Scores are summed in float32.
        rescore: Whether the documents found in bf16 or int8 are scored and ordered again in fp32.
        only: The documents to search among; None for all of them.
        exclude: Documents not to search among.
        guidance: Search guidance.
        constraint: Whether every beam leads to a document. If not, the search covers all sequences
            of codes, and those that are not identifiers are dropped from the results.
    """

    score: Literal["model", "constrained"] | None = None
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    rescore: bool = False
    only: Collection[str] | None = None
    exclude: Collection[str] = ()
    guidance: Annotated[GuidanceOptions, Needs("constraint")] = field(
        default_factory=GuidanceOptions
    )
    constraint: bool = True

    def conflicts(self) -> None:
        """Refuses to rescore what is exact already, or not constrained."""
        if self.rescore and self.precision == "fp32":
            raise InputError(
                "--rescore has no effect, because the search already scores in fp32",
                hint="Omit it, or use --precision int8 or bf16",
            )
        if self.rescore and not self.constraint:
            raise InputError(
                "--rescore scores documents along the constraint, but --constraint is false",
                hint="Omit one of the two",
            )

    def score_in(self, index: str) -> str:
        """Resolves the score to "model" or "constrained".

        Args:
            index: The score the index was trained with.

        Raises:
            InputError: It is normalized over the allowed codes, and the search is not constrained.
        """
        score = self.score or index
        if score == "constrained" and not self.constraint:
            raise InputError(
                "--constraint false generates any code, but --score constrained normalizes over "
                "codes that lead to a document",
                hint="Use --score model",
            )
        return score


def read_doc_ids(path: Path) -> list[str]:
    """Reads document ids, one per line; blank lines are skipped.

    An id is the whole line, including leading and trailing spaces, which can be part of it. The
    file may be compressed or in UTF-16, like any other input file.

    Raises:
        InputError: There is no such file, it is not text, or it contains no id.
    """
    from data_prep.sources.lines import lines

    numbered = lines(path, noun="file of document ids", hint="Write it in UTF-8")
    ids = [_without_end(line) for _, line in numbered if line.strip()]
    if not ids:
        raise InputError(
            "the file contains no document id", where=path, hint="Write one id per line"
        )
    return ids


def _without_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")
