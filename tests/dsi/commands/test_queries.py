"""`dsi queries` generates pseudo-queries once, and reports what it did."""

import json

import pytest

from data_prep.dataset import Dataset, Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from data_prep.generators.extractive import ExtractiveOptions
from data_prep.generators.selective import SelectiveOptions
from dsi.cli import main
from dsi.commands.queries import queries
from dsi.generation import MemoryOptions


@pytest.fixture
def dataset(tmp_path):
    documents = [Document(f"d{n}", "", f"Otter {n} swims in river {n} at dawn.") for n in range(5)]
    return write_dataset(tmp_path / "set", InMemorySource(documents))


def test_the_report_says_how_many_and_shows_some(dataset):
    report = queries(dataset.path, per_doc=4, seed=1)
    assert report.data["queries"] == 20
    assert report.data["complete"] is True
    assert (report.data["options"]["per_doc"], report.data["options"]["seed"]) == (4, 1)
    assert len(report.data["samples"]) == 3
    assert len(Dataset.open(dataset.path).pseudo_queries("extractive")) == 20
    assert queries(dataset.path, per_doc=4, seed=1).data["written"] == 0


def test_options_of_the_generator_reach_it(dataset):
    options = ExtractiveOptions(per_doc=3, keyword_fraction=0, span_fraction=0)
    assert queries(dataset.path, extractive=options).data["options"]["keyword_fraction"] == 0
    texts = Dataset.open(dataset.path).pseudo_queries()["text"]
    assert set(texts) == {f"Otter {n} swims in river {n} at dawn." for n in range(5)}


def test_options_of_another_generator_are_refused(dataset):
    options = SelectiveOptions(per_doc=3)
    with pytest.raises(InputError, match=r"--selective\.\* has no effect with --generator extr"):
        queries(dataset.path, selective=options)


def test_processes_of_torchrun_share_the_work(dataset, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    report = queries(dataset.path)
    assert (report.data["complete"], report.data["written"]) == (False, 0)
    monkeypatch.setenv("RANK", "0")
    assert queries(dataset.path).data["complete"] is True


MEMORY = {
    "memory": MemoryOptions(width=64, layers=1, vocabulary=100, steps=2, pairs=4, query_length=5)
}


@pytest.fixture
def labeled(tmp_path):
    documents = [Document(f"d{n}", "", f"Otter {n} swims in river {n} at dawn.") for n in range(50)]
    queries = [Query(f"q{n}", f"where does otter {n} swim?") for n in range(50)]
    qrels = [Qrel(f"q{n}", f"d{n}", 1, "train") for n in range(50)]
    return write_dataset(tmp_path / "labeled", InMemorySource(documents, queries, qrels))


def test_the_generative_memory_is_trained_where_asked_for(labeled):
    with pytest.raises(InputError, match="--train_generator"):
        queries(labeled.path, generator="memory", **MEMORY)
    first = queries(labeled.path, train_generator=True, per_doc=2, **MEMORY)
    assert (first.data["generator"], first.data["complete"]) == ("memory", True)
    assert first.data["queries"] > 50
    again = queries(labeled.path, generator="memory", per_doc=2, **MEMORY)
    assert again.data["written"] == 0
    with pytest.raises(InputError, match="'memory'"):
        queries(labeled.path, generator="extractive", train_generator=True)


def test_selective_without_labels_names_extractive(dataset):
    with pytest.raises(InputError, match="'extractive'"):
        queries(dataset.path, generator="selective")


def test_the_command_line_takes_them_all(dataset, capsys):
    words = ["--per-doc", "2", "--extractive.title-fraction", "0", "--json"]
    assert main(["queries", str(dataset.path), *words]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["queries"], data["options"]["title_fraction"]) == (10, 0)
    assert main(["queries", str(dataset.path), "--per-doc", "0"]) == 2
    assert main(["queries", str(dataset.path.parent), "--quiet"]) == 2
    assert "dsi prepare" in capsys.readouterr().err


def test_round_trip_counts_and_filters_are_reported(dataset, capsys):
    words = ["queries", str(dataset.path), "--per-doc", "6", "--json"]
    assert main(words) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["round_trip"]["queries"] == 30
    assert 0 < data["round_trip"]["Success@1"] < 1, "all documents but for a number are alike"
    assert data["per_document"] == {"without": 0, "fewest": 6, "mean": 6.0, "most": 6}
    assert data["filter"] is None
    assert main(words[:-1]) == 0
    assert "round trip by BM25: Hits@1" in capsys.readouterr().out
    assert main([*words, "--filter.round-trip", "1"]) == 0
    kept = json.loads(capsys.readouterr().out)
    assert kept["queries"] == pytest.approx(data["round_trip"]["Success@1"] * 30)
    assert kept["round_trip"]["Success@1"] == 1
    assert main([*words[:-1], "--filter.round-trip", "1", "--round-trip", "0"]) == 0
    shown = capsys.readouterr().out
    assert "filter: round_trip" in shown
    assert "round trip by BM25" not in shown
    assert main([*words, "--filter.best", "2"]) == 2
    assert main([*words, "--round-trip", "-1"]) == 2
