"""`dsi quickstart` on a small corpus in place of the docstrings."""

import json

import pytest
from rich.console import Console

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from dsi.command_line.command_report import to_json
from dsi.commands.quickstart import EXAMPLE_QUERIES, quickstart

THINGS = ["graph", "matrix", "message", "file", "socket", "thread", "color", "clock"]
VERBS = ["open", "close", "sort", "parse", "draw"]


@pytest.fixture
def out(tmp_path):
    pairs = [(verb, thing) for verb in VERBS for thing in THINGS]
    documents = [
        Document(f"{thing}.{verb}", f"{thing} {verb}", f"This can {verb} any {thing}. Number {n}.")
        for n, (verb, thing) in enumerate(pairs)
    ]
    queries = [Query(f"q{n}", f"{verb} a {thing}") for n, (verb, thing) in enumerate(pairs)]
    qrels = [Qrel(f"q{n}", document.doc_id, 1, "test") for n, document in enumerate(documents)]
    write_dataset(tmp_path / "q" / "dataset", InMemorySource(documents, queries, qrels))
    return tmp_path / "q"


def test_it_trains_measures_answers_and_says_what_comes_next(out):
    report = quickstart(out=out, steps=2)
    data = json.loads(to_json(report.data))
    assert set(data["systems"]) == {"index", "bm25"}
    assert data["systems"]["index"]["all"]["Success@10"] == 1.0
    assert list(data["answers"]) == list(EXAMPLE_QUERIES)
    assert all(len(hits) == 3 for hits in data["answers"].values())
    assert data["answers"][EXAMPLE_QUERIES[1]][0]["doc_id"] == "message.parse"
    console = Console(record=True, width=120)
    report.show(console)
    shown = console.export_text()
    assert all(question in shown for question in EXAMPLE_QUERIES)
    assert f"dsi search {out / 'index'}" in shown


def test_running_it_again_trains_nothing(out):
    first = quickstart(out=out, steps=2)
    weights = (out / "index/versions/0001/model/model.safetensors").stat().st_mtime_ns
    again = quickstart(out=out, steps=2)
    assert (out / "index/versions/0001/model/model.safetensors").stat().st_mtime_ns == weights
    assert again.data["systems"] == first.data["systems"]
    assert again.data["answers"] == first.data["answers"]
