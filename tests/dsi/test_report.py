import io
from pathlib import Path

import numpy as np
from rich.console import Console

from dsi.report import TableReport, shown, to_json


def printed(report: TableReport, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    report.show(console)
    return console.file.getvalue()


def test_shows_title_rows_and_closing_lines_in_order():
    text = printed(
        TableReport(
            data={},
            title="Figures",
            columns=("system", "Success@1"),
            rows=[("index", 0.79), ("bm25", None)],
            closing=("Next: dsi search",),
        )
    )
    lines = [line.split() for line in text.splitlines()]
    assert lines == [
        ["Figures"],
        ["system", "Success@1"],
        ["index", "0.790"],
        ["bm25", "-"],
        ["Next:", "dsi", "search"],
    ]


def test_cells_are_never_read_as_markup():
    text = printed(TableReport(data={}, title="[red]t", columns=("a",), rows=[("[bold]x[/bold]",)]))
    assert "[red]t" in text
    assert "[bold]x[/bold]" in text


def test_a_command_longer_than_a_line_is_not_folded():
    command = f"next: dsi train {'long/' * 50}ds --out INDEX"
    assert printed(TableReport(data={}, closing=(command,))) == f"{command}\n"


def test_an_empty_report_prints_nothing():
    assert printed(TableReport(data={"a": 1})) == ""


def test_cells_as_people_read_them():
    assert [shown(cell) for cell in (8841823, 0.5, 0.0, -3e-05, True, None, "x")] == [
        "8,841,823",
        "0.500",
        "0.000",
        "-3e-05",
        "yes",
        "-",
        "x",
    ]


def test_json_is_strict_whatever_the_values_are():
    data = {"a": float("nan"), "b": Path("x"), "c": np.float32(0.5), "d": np.arange(2), 3: ("é",)}
    assert to_json(data) == '{"a": null, "b": "x", "c": 0.5, "d": [0, 1], "3": ["é"]}'
