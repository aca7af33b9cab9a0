"""Trains, searches and evaluates with each kind of identifier, as a user would."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from dsi import Index
from dsi.cli import main

DOCUMENTS = 48
TOPICS = {
    "sea": "harbour whale sailor anchor tide coral lighthouse pirate",
    "sky": "cloud falcon thunder comet balloon glider horizon sunrise",
    "forest": "fern badger mushroom cedar brook hunter moss acorn",
    "city": "tram market bridge lantern baker theatre alley fountain",
}
QUICK = "--per_doc 4 --loop.steps 24 --loop.batch 16 --loop.precision fp32 --optimizer.lr 0.001"
LEARNED = "--learned.levels 2 --learned.codebook 4 --learned.width 32 --learned.epochs 2"
QUANTIZED = "--{0}.levels 3 --{0}.codebook 16"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Documents of four topics with two words of their own each; two share a title."""
    rng = np.random.default_rng(0)
    documents, queries, qrels = [], [], []
    for number in range(DOCUMENTS):
        topic = list(TOPICS)[number % len(TOPICS)]
        said = rng.choice(TOPICS[topic].split(), 4, replace=False)
        own = [f"{topic}{word}{number}" for word in ("zor", "vek")]
        text = f"The {said[0]} and {own[0]} {said[1]}. A {own[1]} {said[2]} {said[3]}."
        # Pairs of documents share a title and URL, so that identifiers made of words collide.
        title = f"{topic} {number // 8}"
        url = f"https://www.{topic}.example/page-{number // 8}"
        documents.append(Document(f"d{number}", title, text, url))
        for split in ("train", "test"):
            queries.append(Query(f"{split}{number}", f"where is {own[split == 'test']}"))
            qrels.append(Qrel(f"{split}{number}", f"d{number}", 1, split))
    path = tmp_path_factory.mktemp("every_kind") / "dataset"
    return write_dataset(path, InMemorySource(documents, queries, qrels, name="topics"))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("description", ""),
        ("description", "--collisions share"),
        ("title", ""),
        pytest.param("title", "--collisions share", marks=pytest.mark.slow),
        ("url", ""),
        pytest.param("url", "--collisions share", marks=pytest.mark.slow),
        ("keywords", ""),
        ("rq", QUANTIZED.format("rq")),
        pytest.param("rq", QUANTIZED.format("rq") + " --collisions share", marks=pytest.mark.slow),
        pytest.param("rq", QUANTIZED.format("rq") + " --rq.balance true", marks=pytest.mark.slow),
        ("pq", QUANTIZED.format("pq")),
        pytest.param("pq", QUANTIZED.format("pq") + " --pq.rotation opq", marks=pytest.mark.slow),
        ("rqvae", QUANTIZED.format("rqvae") + " --rqvae.steps 100 --rqvae.least_use 0"),
        ("learned", LEARNED),
        pytest.param("learned", LEARNED + " --collisions share", marks=pytest.mark.slow),
    ],
)
def test_a_kind_is_trained_searched_and_evaluated(kind, options, dataset, tmp_path, capsys):
    out = tmp_path / "index"
    words = ["train", str(dataset.path), "--out", str(out), "--docids", kind]
    assert main([*words, *QUICK.split(), *options.split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == DOCUMENTS

    index = Index.open(out, "cpu")
    assert index.table.kind == kind
    assert index.table.shared == ("share" in options)
    documents = list(dataset.documents())
    found = index.search([document.text for document in documents], k=10)
    ranked = [[hit.doc_id for hit in hits] for hits in found]
    own = [document.doc_id for document in documents]
    # A random ranking finds 1 of 48 documents at rank 1, and 10 in the top ten.
    first = np.mean([ids[0] == doc_id for ids, doc_id in zip(ranked, own, strict=True)])
    among_ten = np.mean([doc_id in ids for ids, doc_id in zip(ranked, own, strict=True)])
    assert first > 0.2
    assert among_ten > 0.5

    words = ["evaluate", str(out), str(dataset.path), "--split", "test", "--json"]
    assert main(words) == 0
    measured = json.loads(capsys.readouterr().out)["systems"]["index"]["all"]
    assert measured["Success@1"] > 0.2
    assert measured["Success@10"] > 0.5

    assert main(["info", str(out), "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)["versions"][-1]["metrics"]
    if kind in ("rq", "pq", "rqvae"):  # over vectors, whose neighbors can be counted
        rates, gini = trained["identifiers"]["neighbor_hit_rate"], trained["identifiers"]["gini"]
        # Documents that share more codes are fewer.
        assert 1 >= rates[0] >= rates[1] >= 0
        assert 0 <= gini < 1

    gone = own[5]
    assert main(["delete", str(out), gone, "--json"]) == 0
    capsys.readouterr()
    left = Index.open(out, "cpu")
    assert len(left) == DOCUMENTS - 1
    (hits,) = left.search([documents[5].text], k=DOCUMENTS)
    assert gone not in [hit.doc_id for hit in hits]


@pytest.mark.slow  # two trainings
def test_quantized_identifiers_are_compared_with_and_without_balance(dataset, tmp_path, capsys):
    words = ["compare", str(dataset.path), "--out", str(tmp_path / "grid"), "--json"]
    varied = ["--docids", "rq", "--rq.balance", "false,true"]
    assert main([*words, *varied, *QUANTIZED.format("rq").split(), *QUICK.split()]) == 0
    assert "rq.balance" in capsys.readouterr().out
