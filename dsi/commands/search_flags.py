"""How to search, as `dsi search` and `dsi evaluate` are told it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from data_prep.errors import InputError
from dsi.search.options import GuidanceOptions, SearchOptions, read_doc_ids


@dataclass(frozen=True, kw_only=True)
class SearchFlags:
    """What the two commands share."""

    beams: int | None = None
    """Width of the search; more is slower and misses less; default that of the index (for dsi
    evaluate at least 100; with fewer, as many documents are found as there are beams)"""
    score: Literal["model", "constrained"] | None = None
    """What a document's score is: "model", the log-probability of its identifier; "constrained",
    the same over the codes that lead to a document, step by step; default what the index was
    trained by"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """fp32, or bf16: half the memory, and faster where the hardware multiplies it"""
    only: Path | None = None
    """A file of document ids, one a line, to search among"""
    exclude: Path | None = None
    """A file of document ids, one a line, not to search among"""
    guidance: GuidanceOptions = field(default_factory=GuidanceOptions)
    """What helps the beams; off by default"""
    constraint: bool = True
    """Keep to identifiers of documents; false writes any codes, and drops what is no document's
    identifier, to see what the constraint is worth"""
    device: str | None = None
    """Where to search ("cpu", "cuda:1"); default an accelerator where there is one"""
    run: Path | None = None
    """A file to write the results to, as a TREC run; - for standard output"""

    def __post_init__(self) -> None:
        if self.run is not None and self.run.is_dir():
            raise InputError(
                "this is a folder", where=f"--run {self.run}", hint="Name a file in it"
            )

    def options(self) -> SearchOptions:
        """Returns the options that are meant; the files are read.

        Raises:
            InputError: A file cannot be read, or options do not go together.
        """
        return SearchOptions(
            score=self.score,
            precision=self.precision,
            only=None if self.only is None else read_doc_ids(self.only),
            exclude=[] if self.exclude is None else read_doc_ids(self.exclude),
            guidance=self.guidance,
            constraint=self.constraint,
        )

    def given(self) -> Iterator[str]:
        """Yields the names of those that are not what they are by default."""
        plain = SearchFlags()
        for each in fields(self):
            if getattr(self, each.name) != getattr(plain, each.name):
                yield each.name
