"""Groups of systems, averages over seeds, corrected tests, and the tables of these."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from dsi.commands.compare import _rows
from dsi.commands.grid import cells_of
from dsi.evaluation.comparison import Measured, compare_systems, conclusion, differing, holm
from dsi.evaluation.comparison_page import write_page
from dsi.evaluation.comparison_tables import comma_separated, latex, markdown
from dsi.evaluation.measures import evaluate_run
from dsi.evaluation.per_query import write_per_query
from dsi.indexing.options import TrainingOptions

QUERIES = [f"q{n}" for n in range(12)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    documents = [Document(f"d{n}", f"Title <{n}>", f"text {n}") for n in range(12)]
    queries = [Query(query, f"what is {query}?") for query in QUERIES]
    qrels = [Qrel(query, f"d{n}", 1, "test") for n, query in enumerate(QUERIES)]
    source = InMemorySource(documents, queries, qrels, name="twelve")
    return write_dataset(tmp_path_factory.mktemp("data") / "ds", source)


def system(dataset, right, seed=None, name="index", **options):
    """A system that finds the document of the first `right` queries and nothing of the others."""
    run = {query: {f"d{n if n < right else (n + 1) % 12}": 1.0} for n, query in enumerate(QUERIES)}
    values = evaluate_run(dataset.qrels_of("test"), run).per_query
    first = {query: next(iter(found)) for query, found in run.items()}
    return Measured(name, values, options, seed, {"training seconds": 2.0 * right + 1}, first)


@pytest.fixture(scope="module")
def systems(dataset):
    return [
        system(dataset, 12, 1, docids="atomic", steps=5),
        system(dataset, 10, 2, docids="atomic", steps=5),
        system(dataset, 2, 1, docids="a_b & c", steps=5),
        system(dataset, 2, 2, docids="a_b & c", steps=5),
        system(dataset, 1, name="bm25"),
    ]


@pytest.fixture(scope="module")
def data(dataset, systems):
    return compare_systems(dataset, "test", systems)


def test_systems_are_grouped_by_the_options_in_which_they_differ(data, systems):
    assert differing(systems) == ["docids"]
    labels = [(group["label"], group["letter"], group["seeds"]) for group in data["groups"]]
    assert labels == [
        ("docids atomic", "a", [1, 2]),
        ("docids a_b & c", "b", [1, 2]),
        ("bm25", "c", []),
    ]


def test_seeds_are_averaged_with_their_sample_deviation(data):
    hits = data["groups"][0]["measures"]["all"]["Success@1"]
    assert hits["mean"] == pytest.approx(11 / 12)
    # Standard deviation of 1 and 10/12: half their distance times the square root of 2.
    assert hits["sd"] == pytest.approx((2 / 12) / 2 * 2**0.5)
    assert data["groups"][2]["measures"]["all"]["Success@1"]["sd"] is None


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04: times 4, 3, 2, 1, and never less than the one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni(p_values):
    corrected = holm(p_values)
    for before, after in zip(p_values, corrected, strict=True):
        assert before <= after <= 1
    assert min(corrected) == pytest.approx(min(1, len(p_values) * min(p_values)))


def test_the_conclusion_names_the_best_and_whether_it_may_be_chance(dataset, data):
    said = conclusion(data)
    assert said.startswith("docids atomic is right at rank 1 for 91.7 % of 12 queries, 75.0 points")
    close = [system(dataset, 5, 1, docids="one"), system(dataset, 4, 1, docids="two")]
    assert "8.3 points behind, which may be chance" in conclusion(
        compare_systems(dataset, "test", close)
    )


def test_systems_with_equal_means_tie(dataset):
    equal = [system(dataset, 4, 1, docids="one"), system(dataset, 4, 1, docids="two")]
    assert conclusion(compare_systems(dataset, "test", equal)) == (
        "docids one is right at rank 1 for 33.3 % of 12 queries, and so is docids two: they tie."
    )


def test_the_tables_say_the_same(data):
    rows = [row for row in markdown(data).splitlines() if row.startswith("| a |")]
    assert rows[0].startswith("| a | docids atomic | **0.917 ± 0.118**<sup>bc</sup> |")
    tex = latex(data)
    assert r"a & docids atomic & \textbf{0.917 $\pm$ 0.118}\textsuperscript{bc} &" in tex
    assert r"b & docids a\_b \& c &" in tex
    assert tex.count(r"\\") == 4
    records = list(csv.DictReader(io.StringIO(comma_separated(data))))
    assert float(records[0]["Success@1"]) == pytest.approx(11 / 12)
    assert [record["docids"] for record in records][:2] == ["atomic", "atomic"]


def test_values_of_each_query_are_the_same_in_both_formats(dataset, systems, tmp_path):
    import pyarrow.parquet as pq

    for suffix in (".csv", ".parquet"):
        write_per_query(tmp_path / f"q{suffix}", dataset, "test", systems, ["docids"])
    with (tmp_path / "q.csv").open() as file:
        read = list(csv.DictReader(file))
    rows = pq.read_table(tmp_path / "q.parquet").to_pylist()
    assert len(read) == len(rows) == 5 * 12
    assert [float(one["Success@1"]) for one in read] == [row["Success@1"] for row in rows]
    assert rows[0]["query"] == "what is q0?"
    assert (rows[-1]["system"], rows[-1]["seed"], rows[0]["group"]) == ("bm25", None, "unseen")


def test_the_page_shows_the_queries_that_one_finds_and_the_other_does_not(
    dataset, data, systems, tmp_path
):
    write_page(tmp_path / "r.html", data, dataset, "test", systems, ["a remark"])
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "not with docids a_b &amp; c: 10 queries" in page
    assert "<dt>what is q2?</dt><dd>right: <b>Title &lt;2&gt;</b> text 2</dd>" in page
    assert "a remark" in page
    assert "The dataset, twelve" in page
    assert "<dt>documents</dt><dd>12</dd>" in page
    costs = page.partition("What it costs")[2]
    assert costs.index("<b>3.0</b>") < costs.index("<svg"), "the cheapest is bold"
    assert json.dumps(data)


@pytest.mark.parametrize("line", ["[1]", "1", "null", '"a"', '{"cell": "a"}'])
def test_a_file_that_is_no_table_of_results_is_refused_and_stays(dataset, tmp_path, line):
    (tmp_path / "results.jsonl").write_text(f"{line}\n")
    with pytest.raises(InputError, match="not a table of results of dsi compare"):
        _rows(tmp_path, dataset, "test")
    assert (tmp_path / "results.jsonl").read_text() == f"{line}\n"


@pytest.mark.parametrize("name", ["notes.md", "live", "dataset.json"])
def test_a_folder_of_something_else_is_not_written_to(dataset, tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=f"holds other files, such as '{name}'"):
        _rows(tmp_path, dataset, "test")


def test_what_a_killed_grid_left_before_its_first_row_is_its_own(dataset, tmp_path):
    for name in ("indexes", "runs", ".results.jsonl.new-ab_1"):
        (tmp_path / name).mkdir()
    assert _rows(tmp_path, dataset, "test") == {}


@pytest.mark.parametrize(
    ("variants", "seeds", "told"),
    [
        ({"a/b": {"docids": "atomic"}, "a b": {"docids": "naive"}}, [0], "would both be stored in"),
        ({"": {"docids": "atomic"}}, [0], "a variant has no name"),
        ({}, [], "there is no seed"),
        ({}, [1, 1], "the seeds must differ"),
    ],
)
def test_a_grid_whose_cells_cannot_be_told_apart_is_refused(variants, seeds, told):
    with pytest.raises(InputError, match=told):
        cells_of(TrainingOptions(), {}, variants, seeds)


def test_the_folder_of_a_cell_has_a_name_that_every_file_system_takes():
    [cell] = cells_of(TrainingOptions(), {}, {"\u4e2d/" * 300: {"docids": "atomic"}}, [0])
    assert len(cell.name.encode()) <= 120
    assert "/" not in cell.name
