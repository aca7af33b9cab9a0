"""The tables in README.md and docs/ match the benchmark records."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import page_tables
import pytest
import record
import tables
from tables import Line, Table

from data_prep.errors import InputError
from dsi.continual.performance_matrix import (
    average_performance,
    forgetting,
    learning_performance,
)

ROOT = Path(tables.__file__).parents[1]
PAGE = Path("page.md")


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_a_page_agrees_with_the_record(page):
    text = page.read_text("utf-8")
    fresh = tables.refreshed(text, page_tables.TABLES, where=page)
    assert text == fresh, "run python benchmarks/tables.py"


def test_every_table_has_one_place():
    text = "".join(page.read_text("utf-8") for page in tables.PAGES)
    places = [place["name"] for place in tables.PLACE.finditer(text)]
    assert sorted(places) == sorted(page_tables.TABLES)


def test_a_table_of_benchmarks_is_not_written_by_hand():
    """Deviations over seeds come from the record only."""
    for page in tables.PAGES:
        text = tables.PLACE.sub("", page.read_text("utf-8"))
        by_hand = [line for line in text.splitlines() if line.startswith("|") and " ± " in line]
        assert not by_hand, page.name


def page_with(body):
    return f"Before.\n\n<!-- table: one -->\n{body}<!-- /table -->\n\nAfter.\n"


def one(*rows):
    return lambda: Table(["", "Hits@1"], [Line(["index", "0.5"], rows)])


WRITTEN = page_with("| | Hits@1 |\n|---|---|\n| index | 0.5 |\n")


@pytest.mark.parametrize("body", ["", "old\n", "| index | 0.4 |\n\nA remark.\n"])
def test_what_stands_between_the_comments_is_replaced_and_nothing_else(body):
    assert tables.refreshed(page_with(body), {"one": one()}, PAGE) == WRITTEN
    assert tables.refreshed(WRITTEN, {"one": one()}, PAGE) == WRITTEN


def test_a_page_without_comments_stays():
    text = "| a | b |\n|---|---|\n\nWrite `<!-- table: NAME -->` and `<!-- /table -->`.\n"
    assert tables.refreshed(text, {}, PAGE) == text


def test_a_line_from_a_void_row_is_marked_with_the_reason():
    void = {"cell": "a", "void": "trained with wrong weights: measure again"}
    written = tables.rendered(one({"cell": "b"}, void)())
    assert written == (
        "| | Hits@1 |\n|---|---|\n| index † | 0.5 |\n\n"
        "† **Void**: trained with wrong weights. See "
        "[Figures withdrawn](effectiveness.md#figures-withdrawn).\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (page_with("").replace("one", "other"), "no table 'other'"),
        (page_with("").replace("<!-- /table -->", ""), "1 comments open a table, 0 close one"),
        (page_with("").replace("<!-- table: one -->", ""), "0 comments open a table, 1 close one"),
        (page_with("<!-- table: one -->\n"), "2 comments open a table, 1 close one"),
    ],
)
def test_a_place_that_is_wrong_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        tables.refreshed(text, {"one": one()}, PAGE)


def test_a_cell_that_was_not_measured_is_named(results):
    with pytest.raises(InputError, match=r"results/train\.jsonl: a table needs the cell 'a-seed0'"):
        page_tables.seeds("train", "a")


def test_the_mean_and_the_deviation_of_the_seeds_there_are(results):
    for seed, value in enumerate((0.5, 0.6, 0.7)):
        record.write("suite", {"cell": f"a-seed{seed}", "Hits@1": value})
    values = [found["Hits@1"] for found in page_tables.seeds("suite", "a")]
    assert values == [0.5, 0.6, 0.7]
    assert page_tables.spread(values) == "60.0 ± 10.0"
    assert page_tables.spread(values[:1]) == "50.0"


def test_the_best_of_a_column_is_bold_and_so_is_what_is_printed_like_it():
    values = [[0.5001, 0.1], [0.5004, 0.3], [0.4, 0.2]]
    assert page_tables.best(values, 3) == [
        ["**0.500**", "0.100"],
        ["**0.500**", "**0.300**"],
        ["0.400", "0.200"],
    ]


def test_a_measured_figure_gets_into_the_page(results):
    """A row of the record changes, and with it the table alone."""
    found = {"cell": "a", "settings": {"size": "small", "batch": 64, "length": 16}}
    found |= {"rows touched": 7221.7, "all": 3.954, "touched": 3.896, "frozen": 2.721}
    record.write("rows", {**found, "cell": "lexical-bf16-vocabulary32000-batch512"})
    text = "<!-- table: untouched-rows -->\n<!-- /table -->\n"
    assert tables.refreshed(text, page_tables.TABLES, PAGE) == (
        "<!-- table: untouched-rows -->\n"
        "| model | rows touched | all | touched | frozen |\n|---|---|---|---|---|\n"
        "| small, 64 texts of 16 tokens | 7,222 | 3.95 s | 3.90 s | 2.72 s |\n"
        "<!-- /table -->\n"
    )


def test_the_script_needs_no_torch():
    code = "import sys, page_tables; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(tables.__file__).parent)
    assert done.returncode == 0


def test_values_of_queries_add_up_to_the_measures():
    found = [["1101"], ["1001", "11"], ["0011", "01", "001"]]
    by_hand = np.full((3, 3), np.nan)
    for n, after in enumerate(found):
        by_hand[n, : n + 1] = [corpus.count("1") / len(corpus) for corpus in after]
    values = page_tables.query_values({"found": found})
    assert values.shape == (9, 3)
    np.testing.assert_allclose(
        values.sum(axis=0),
        [
            average_performance(by_hand, 2),
            forgetting(by_hand, 2),
            learning_performance(by_hand, 2),
        ],
    )
    # The second query of D0 was answered at first and is not at the end; the third is only then.
    np.testing.assert_allclose(values[1:3, 1], [1 / 4 / 2, -1 / 4 / 2])


def test_differences_between_strategies_are_tested_over_queries(monkeypatch):
    many = "1" * 40
    rows = {
        "s-rq-generative-seed0": {"found": [[many], [many, many]]},
        "s-rq-reindex-seed0": {"found": [[many], ["0" * 40, many]]},
        "s-rq-retrain-seed1": {"found": [[many], [many, many]]},
    }
    monkeypatch.setattr(page_tables, "_rows", lambda suite: rows)
    lines = page_tables._differences("s", "rq").lines
    assert [list(line.cells) for line in lines] == [
        [
            "`generative` − `reindex`", "1", "**+50.0** (p < 0.001)", "**−100.0** (p < 0.001)",
            "+0.0 (p = 1.000)",
        ],
    ]  # fmt: skip
