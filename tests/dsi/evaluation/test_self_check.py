"""Training reports whether its index finds its own documents."""

from pathlib import Path

import pytest

from data_prep.dataset import Dataset, Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from dsi.cli import main
from dsi.evaluation.self_check import SelfCheck, run_self_check
from dsi.index import Index

QUICK = ["--loop.steps", "2", "--loop.batch", "8", "--per_doc", "2", "--loop.precision", "fp32"]
SYLLABLES = ["ka", "lo", "mi", "pu", "ze"]
WORDS = [a + b + c for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES][:80]
DOCUMENTS = [
    Document(f"d{number}", word, f"The {word} beside {WORDS[number - 1]} and {word}.")
    for number, word in enumerate(WORDS)
]


def train(folder: Path, dataset: Dataset, *words: str) -> Path:
    out = folder / "index"
    assert main(["train", str(dataset.path), "--out", str(out), *QUICK, *words]) == 0
    return out


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Dataset:
    return write_dataset(tmp_path_factory.mktemp("check") / "set", InMemorySource(DOCUMENTS))


def test_without_labeled_queries_it_asks_for_keywords_of_documents(plain, tmp_path, capsys):
    out = train(tmp_path, plain)
    shown = capsys.readouterr().out
    found = run_self_check(out)
    assert found is not None
    assert (found.source, found.queries) == ("pseudo", len(DOCUMENTS))
    assert found.found > 0.9
    assert f"{found.found:.3f} of 80 keyword queries of documents" in shown
    assert "warning: this training has failed" not in shown


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
def test_a_training_that_has_failed_says_so(plain, tmp_path, capsys, kind):
    words = ["--model.warm_start", "none", "--lexical.enabled", "false", "--docids", kind]
    out = train(tmp_path, plain, *words)
    shown = capsys.readouterr().out
    assert "warning: this training has failed" in shown
    assert ("--docids semantic" in shown) == (kind == "atomic"), "what is left to try"
    found = run_self_check(out)
    assert found is not None
    assert found.found < 0.3


def test_dev_queries_are_asked_where_there_are_some(tmp_path):
    queries = [Query(f"q{number}", f"where is {word}") for number, word in enumerate(WORDS[:8])]
    qrels = [Qrel(query.query_id, f"d{number}", 1, "dev") for number, query in enumerate(queries)]
    dataset = write_dataset(tmp_path / "set", InMemorySource(DOCUMENTS, queries, qrels))
    out = train(tmp_path, dataset)
    hits = Index.open(out).search([query.text for query in queries], k=10)
    expected = sum(f"d{n}" in {hit.doc_id for hit in found} for n, found in enumerate(hits)) / 8
    assert run_self_check(out) == SelfCheck("dev", 8, expected)
