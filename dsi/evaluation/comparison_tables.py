"""Tables of a comparison: terminal, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import InputError
from data_prep.files import writing
from dsi.command_line.command_report import TableReport
from dsi.evaluation.comparison import LEVEL, best_of, better_than, conclusion

if TYPE_CHECKING:
    from rich.console import Console

SYMBOLS = {
    "Success@1": "Hits@1",
    "Success@10": "Hits@10",
    "Success@100": "Hits@100",
    "RR@10": "MRR@10",
    "nDCG@10": "nDCG@10",
    "R@100": "Recall@100",
    "All@10": "All@10",
}
FULL_NAMES = {
    "Success@1": "fraction of queries whose first document is relevant",
    "Success@10": "fraction of queries with a relevant document among the first 10",
    "Success@100": "fraction of queries with a relevant document among the first 100",
    "RR@10": "mean reciprocal rank of the first relevant document, 0 beyond rank 10",
    "nDCG@10": "normalized discounted cumulative gain of the first 10 documents",
    "R@100": "fraction of the relevant documents among the first 100",
    "All@10": "fraction of queries with all relevant documents among the first 10",
}
COSTS = {
    "training seconds": "wall-clock time of the training",
    "search seconds": "wall-clock time of the search",
    "GiB": "size of the index on disk",
}
"""Costs of a system; lower is better."""
_LATEX = re.compile(r"[&%$#_{}~^\\]")
_LATEX_WORDS = {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}


@dataclass(frozen=True)
class Cell:
    """The mean of a measure for a group.

    Attributes:
        text: The mean, with the standard deviation if there are several seeds.
        best: Whether no group has a higher mean.
        beats: Letters of the groups that it beats significantly.
    """

    text: str
    best: bool = False
    beats: str = ""


def rows_of(data: Mapping[str, Any]) -> list[tuple[str, list[Cell]]]:
    """Returns label -> one cell per measure over all queries, then one per cost."""
    names = measures_in(data)
    best = {name: best_of(data, name) for name in names}
    beats = {name: better_than(data, name) for name in names}
    costs = costs_of(data)
    rows = []
    for group in data["groups"]:
        label = group["label"]
        cells = [
            Cell(
                _number(group["measures"]["all"][name]),
                len(data["groups"]) > 1 and best[name] == label,
                beats[name][label],
            )
            for name in names
        ]
        cells += [
            Cell(_cost(group["cost"][name])) if name in group["cost"] else Cell("-")
            for name in costs
        ]
        rows.append((label, cells))
    return rows


def costs_of(data: Mapping[str, Any]) -> list[str]:
    """Returns the costs that at least one group has."""
    return [name for name in COSTS if any(name in group["cost"] for group in data["groups"])]


def headings_of(data: Mapping[str, Any]) -> list[str]:
    """Returns the headings of a row, with an arrow in the direction of better values."""
    symbols = (f"{SYMBOLS[name]} ↑" for name in measures_in(data))
    return [*symbols, *(f"{n} ↓" for n in costs_of(data))]


def measures_in(data: Mapping[str, Any]) -> list[str]:
    """Returns the measures of a comparison, by their names in ir-measures."""
    return list(data["groups"][0]["measures"]["all"])


def _number(value: Mapping[str, float | None], digits: int = 3) -> str:
    mean, deviation = value["mean"], value["sd"]
    text = f"{mean:.{digits}f}"
    return text if deviation is None else f"{text} ± {deviation:.{digits}f}"


def _cost(value: Mapping[str, float | None]) -> str:
    """Formats a cost with two significant digits or more."""
    mean = value["mean"] or 0.0
    return _number(value, max(0, 1 - math.floor(math.log10(mean))) if mean > 0 else 1)


def explained(data: Mapping[str, Any]) -> str:
    """Returns the legend of the letters and standard deviations in the table."""
    seeds = max(group["runs"] for group in data["groups"])
    parts = [f"mean ± sample deviation of {seeds} seeds"] if seeds > 1 else []
    if len(data["groups"]) > 1:
        parts.append(
            "letters: better than that line, paired randomization test with Holm's correction,"
            f" p < {LEVEL}"
        )
    return "; ".join(parts)


@dataclass(frozen=True)
class ComparisonReport:
    """The report on a comparison of systems.

    Attributes:
        data: The output of `dsi.evaluation.comparison.compare_systems`.
        remarks: Notes below the table.
    """

    data: Mapping[str, Any]
    remarks: Sequence[str] = field(default=())

    def show(self, console: Console) -> None:
        """Prints the conclusion, and one line per group."""
        letters = {group["label"]: group["letter"] for group in self.data["groups"]}
        rows = [
            (letters[label], label, *(f"{cell.text} {cell.beats}".strip() for cell in cells))
            for label, cells in rows_of(self.data)
        ]
        TableReport(
            data=self.data,
            title=conclusion(self.data),
            columns=("", "system", *headings_of(self.data)),
            rows=rows,
            closing=(*filter(None, [explained(self.data)]), *self.remarks),
        ).show(console)


def markdown(data: Mapping[str, Any]) -> str:
    """Returns the comparison as a Markdown table, the best values in bold."""
    lines = [
        f"| | system | {' | '.join(headings_of(data))} |",
        f"|---|---|{'---|' * len(headings_of(data))}",
    ]
    letters = {group["label"]: group["letter"] for group in data["groups"]}
    for label, cells in rows_of(data):
        texts = [
            (f"**{cell.text}**" if cell.best else cell.text)
            + (f"<sup>{cell.beats}</sup>" if cell.beats else "")
            for cell in cells
        ]
        name = label.replace("|", r"\|")
        lines.append(f"| {letters[label]} | {name} | {' | '.join(texts)} |")
    return "\n".join([*lines, "", conclusion(data), explained(data), ""])


def latex(data: Mapping[str, Any]) -> str:
    """Returns the comparison as a LaTeX `table` with booktabs rules."""
    headings = [
        heading.replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$")
        for heading in headings_of(data)
    ]
    letters = {group["label"]: group["letter"] for group in data["groups"]}
    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        rf"\caption{{{_escaped(data['dataset'])}, {data['split']}: {data['queries']['all']:,} "
        rf"queries. {_escaped(explained(data).capitalize())}.}}",
        rf"\begin{{tabular}}{{ll{'r' * len(headings)}}}",
        r"\toprule",
        " & ".join(["", "System", *headings]) + r" \\",
        r"\midrule",
    ]
    for label, cells in rows_of(data):
        texts = []
        for cell in cells:
            text = cell.text.replace("±", r"$\pm$")
            text = rf"\textbf{{{text}}}" if cell.best else text
            texts.append(text + (rf"\textsuperscript{{{cell.beats}}}" if cell.beats else ""))
        lines.append(" & ".join([letters[label], _escaped(label), *texts]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _escaped(text: str) -> str:
    text = text.replace("±", "+-") if "±" not in text else text
    escaped = _LATEX.sub(lambda found: _LATEX_WORDS.get(found[0], "\\" + found[0]), text)
    return escaped.replace("±", r"$\pm$").replace("<", "$<$").replace(">", "$>$")


def comma_separated(data: Mapping[str, Any]) -> str:
    """Returns the comparison as CSV: one record per group and query group."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = measures_in(data)
    costs = costs_of(data)
    columns = [column for name in [*names, *costs] for column in (name, f"{name} sd")]
    writer.writerow(["system", *data["options"], "seeds", "queries", *columns])
    for group in data["groups"]:
        options = [group["options"].get(name, "") for name in data["options"]]
        for queries, values in group["measures"].items():
            spreads = [values[name] for name in names]
            spreads += [group["cost"].get(name, {"mean": "", "sd": ""}) for name in costs]
            numbers = [
                "" if spread[part] is None else spread[part]
                for spread in spreads
                for part in ("mean", "sd")
            ]
            writer.writerow([group["label"], *options, group["runs"], queries, *numbers])
    return file.getvalue()


FORMATS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    ".md": markdown,
    ".tex": latex,
    ".csv": comma_separated,
    ".json": lambda data: json.dumps(data, indent=2, ensure_ascii=False) + "\n",
}
"""File suffix -> formatter."""


def refuse_other_formats(files: Sequence[Path]) -> None:
    """Refuses table files of unknown format or in a missing folder, before work starts.

    Raises:
        InputError: A file has an unknown suffix, or its folder does not exist.
    """
    for file in files:
        if file.suffix not in FORMATS:
            raise InputError(
                "cannot tell the format of this table",
                where=f"--table {file}",
                hint=f"Use a file name that ends in one of: {', '.join(FORMATS)}",
            )


def write_tables(files: Sequence[Path], data: Mapping[str, Any]) -> None:
    """Writes the comparison to each file, in the format of its suffix."""
    for file in files:
        with writing(file) as stream:
            stream.write(FORMATS[file.suffix](data))
