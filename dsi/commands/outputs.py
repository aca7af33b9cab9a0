"""Output files of a comparison: tables, per-query values, an HTML page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.checks import Options
from data_prep.errors import InputError
from data_prep.files import refuse_no_file

if TYPE_CHECKING:
    from data_prep.dataset import Dataset
    from dsi.command_line.command_report import Report
    from dsi.evaluation.comparison import Measured


def refuse_other_page(report: Path | None) -> None:
    """Refuses a report that is not named as an HTML page, before work starts.

    Raises:
        InputError: Its suffix is another.
    """
    if report is not None and report.suffix not in (".html", ".htm"):
        raise InputError(
            "the report is an HTML page",
            where=f"--report {report}",
            hint="Use a file name that ends in .html",
        )


@dataclass(frozen=True)
class Outputs(Options):
    """Output files requested by the user; invalid ones are refused before work starts.

    Attributes:
        table: Files for the table.
        per_query: File for the values of each query.
        report: File for the page.
    """

    table: Sequence[Path] = ()
    per_query: Path | None = None
    report: Path | None = None

    def conflicts(self) -> None:
        """Refuses files of formats that are not written."""
        from dsi.evaluation.comparison_tables import refuse_other_formats
        from dsi.evaluation.per_query import refuse_other_format

        refuse_other_formats(self.table)
        refuse_other_format(self.per_query)
        refuse_other_page(self.report)
        for number, file in enumerate(self.files):
            refuse_no_file(file)
            others = map(os.path.realpath, self.files[:number])
            if os.path.realpath(file) in others:
                raise InputError(
                    "two outputs would be written to this file",
                    where=file,
                    hint="Give each its own",
                )

    @property
    def any_requested(self) -> bool:
        """Whether any file is requested."""
        return bool(self.files)

    @property
    def files(self) -> list[Path]:
        """All requested files."""
        return [*self.table, *filter(None, (self.per_query, self.report))]

    def write(
        self,
        data: Mapping[str, Any],
        dataset: Dataset,
        split: str,
        systems: Sequence[Measured],
        remarks: Sequence[str],
    ) -> Report:
        """Writes the files, and returns the report."""
        from dsi.evaluation.comparison_tables import write_tables
        from dsi.evaluation.per_query import write_per_query

        write_tables(self.table, data)
        if self.per_query is not None:
            write_per_query(self.per_query, dataset, split, systems, data["options"])
        if self.report is not None:
            from dsi.evaluation.comparison_page import write_page

            write_page(self.report, data, dataset, split, systems, remarks)
        return self.as_report(data, [*remarks, *(f"wrote {file}" for file in self.files)])

    def as_report(self, data: Mapping[str, Any], remarks: Sequence[str]) -> Report:
        """Returns the report without writing anything."""
        from dsi.evaluation.comparison_tables import ComparisonReport

        return ComparisonReport(data, tuple(remarks))
