"""Search options of `dsi search` and `dsi evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data_prep.checks import Options
from data_prep.errors import InputError
from data_prep.files import refuse_no_file
from data_prep.marks import Advanced, Count
from dsi.search.options import GuidanceOptions, HopOptions, SearchOptions, read_doc_ids


@dataclass(frozen=True, kw_only=True)
class SearchArguments(Options):
    """Options common to both commands."""

    beams: Count | None = None
    """Beam width; wider is slower and more accurate. Default: that of the index (at least 100 for
    dsi evaluate)"""
    score: Advanced[Literal["model", "constrained"] | None] = None
    """Score of a document: log-probability of its identifier over all codes (model) or over the
    codes that lead to a document (constrained). Default: as in training"""
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    """Numeric precision; bf16 needs half the memory and is faster where the hardware supports it;
    int8 is faster still, on CPUs with VNNI instructions"""
    rescore: Advanced[bool] = False
    """Score the documents found in bf16 or int8 again in fp32"""
    only: Path | None = None
    """File of document ids, one per line: search among these"""
    exclude: Path | None = None
    """File of document ids, one per line: exclude these"""
    guidance: GuidanceOptions = field(default_factory=GuidanceOptions)
    """Search guidance"""
    hops: HopOptions = field(default_factory=HopOptions)
    """Retrieval in several hops"""
    constraint: Advanced[bool] = True
    """Constrain the search to identifiers of documents; false drops invalid ones afterwards, to
    measure what the constraint is worth"""
    device: str | None = None
    """Device to search on (cpu, cuda:1); default: an accelerator if there is one"""
    run: Path | None = None
    """Write the results to this file as a TREC run; - for standard output"""

    def conflicts(self) -> None:
        """Refuses a run to which no file can be written, before the search."""
        if self.run is None:
            return
        if self.run.is_dir():
            raise InputError("this is a folder", where=f"--run {self.run}", hint="Give a file")
        refuse_no_file(self.run)

    def options(self) -> SearchOptions:
        """Returns the search options, and reads their files.

        Raises:
            InputError: A file cannot be read, or options are incompatible.
        """
        return SearchOptions(
            score=self.score,
            precision=self.precision,
            rescore=self.rescore,
            only=None if self.only is None else read_doc_ids(self.only),
            exclude=[] if self.exclude is None else read_doc_ids(self.exclude),
            guidance=self.guidance,
            constraint=self.constraint,
        )
