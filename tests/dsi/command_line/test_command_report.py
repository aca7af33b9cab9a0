import io
from pathlib import Path

import numpy as np
from rich.console import Console

from dsi.command_line.command_report import TableReport, heading, shown, to_json
from dsi.command_line.standard_streams import console


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


def test_names_stay_whole_in_a_narrow_terminal():
    rows = [("finds its own documents", "1.000 of 3 keyword queries of documents of this index")]
    text = printed(TableReport(data={}, columns=("", ""), rows=rows), width=40)
    assert "finds its own documents" in text
    assert " ".join(text.split()) == " ".join(" ".join(rows[0]).split())


def test_numbers_stay_whole_in_a_narrow_terminal():
    columns = ("system", "Hits@1", "Hits@10", "RR@10", "nDCG@10", "R@100")
    rows = [("index", 0.459, 0.847, 0.572, 0.637, 0.976)]
    for width in (20, 40, 80):
        text = printed(TableReport(data={}, columns=columns, rows=rows), width=width)
        assert text.split() == [*columns, "index", "0.459", "0.847", "0.572", "0.637", "0.976"]


def test_output_that_is_no_terminal_has_no_trailing_spaces():
    report = TableReport({}, "title", ("name", "text"), [("a", "x [b]"), ("longer", "longer x")])
    assert printed(report) == "title\nname    text\na       x [b]\nlonger  longer x\n"


def test_tables_are_as_wide_as_columns_says(monkeypatch, capsys):
    rows = [("a", " ".join(["word"] * 30))]
    for columns, widest in (("50", 50), ("", 160), ("wide", 160)):
        monkeypatch.setenv("COLUMNS", columns)
        TableReport(data={}, columns=("", ""), rows=rows).show(console())
        shown_lines = capsys.readouterr().out.splitlines()
        assert max(map(len, shown_lines)) <= widest
        assert (len(shown_lines) > 1) == (widest == 50)


def test_tables_name_success_as_papers_do():
    names = [heading(name) for name in ("Success@1", "dev Success@10", "R@100")]
    assert names == ["Hits@1", "dev Hits@10", "R@100"]
