"""`dsi queries` gives documents pseudo-queries, once, and says what it did."""

import json

import pytest

from data_prep.dataset import Dataset, Document, InMemorySource, write_dataset
from data_prep.errors import InputError
from data_prep.generators.extractive import ExtractiveOptions
from dsi.cli import main
from dsi.commands.queries import queries


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
    options = ExtractiveOptions(per_doc=3, keyword_share=0, span_share=0)
    assert queries(dataset.path, extractive=options).data["options"]["keyword_share"] == 0
    texts = Dataset.open(dataset.path).pseudo_queries()["text"]
    assert set(texts) == {f"Otter {n} swims in river {n} at dawn." for n in range(5)}


def test_processes_of_torchrun_share_the_work(dataset, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    report = queries(dataset.path)
    assert (report.data["complete"], report.data["written"]) == (False, 0)
    monkeypatch.setenv("RANK", "0")
    assert queries(dataset.path).data["complete"] is True


def test_selective_without_labels_names_extractive(dataset):
    with pytest.raises(InputError, match="'extractive'"):
        queries(dataset.path, generator="selective")


def test_the_command_line_takes_them_all(dataset, capsys):
    words = ["--per-doc", "2", "--extractive.title-share", "0", "--json"]
    assert main(["queries", str(dataset.path), *words]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["queries"], data["options"]["title_share"]) == (10, 0)
    assert main(["queries", str(dataset.path), "--per-doc", "0"]) == 2
    assert main(["queries", str(dataset.path.parent), "--quiet"]) == 2
    assert "dsi prepare" in capsys.readouterr().err
