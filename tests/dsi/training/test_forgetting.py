"""Forgetting events, counted by hand; and during training, across an interruption."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import small
from hypothesis import given
from hypothesis import strategies as st
from small import StopError, interrupt

from dsi import Index
from dsi.indexing.build import train_index
from dsi.lexical.options import LexicalOptions
from dsi.training.forgetting import Forgetting


def test_five_documents_over_four_evaluations():
    watched = Forgetting(5)
    for seen in ("11010", "10010", "11000", "01010"):
        watched.see(np.array([mark == "1" for mark in seen]))
    # 0: lost once. 1: lost, found again. 2, 4: never memorized. 3: lost once, found again.
    assert watched.events.tolist() == [1, 1, 0, 1, 0]
    assert watched.measures() == {
        "documents Success@1": 0.4,
        "forgetting events": 3,
        "never forgotten": 0.4,
    }
    assert watched.summary() == {
        "documents": 5,
        "memorized": 0.4,
        "never_memorized": 0.4,
        "zero_events": 0.4,
        "stable": 0.0,
        "events": {"0": 2, "1": 3},
    }


@given(
    st.integers(1, 6).flatmap(
        lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), max_size=8)
    ),
    st.integers(0, 8),
)
def test_it_is_the_definition_and_goes_on_from_its_state(evaluations, kept):
    documents = len(evaluations[0]) if evaluations else 3
    watched = Forgetting(documents)
    for number, marks in enumerate(evaluations):
        if number == kept:
            state = json.loads(json.dumps(watched.state()))
            watched = Forgetting(documents)
            watched.restore(state)
        watched.see(np.array(marks))
    for document in range(documents):
        line = [marks[document] for marks in evaluations]
        lost = sum(was and not now for was, now in pairwise(line))
        assert watched.events[document] == lost
        assert watched.ever[document] == any(line)
    assert sum(watched.summary()["events"].values()) == documents


def test_training_counts_them_and_an_interruption_changes_nothing(dataset, tmp_path, monkeypatch):
    # So fast that documents are forgotten again.
    wanted = small.options(
        optimizer__lr=0.1,
        loop__evaluate_documents=30,
        loop__evaluate_every=1,
        loop__checkpoint_every=3,
    )
    manifest = train_index(dataset, tmp_path / "alone", wanted)
    with monkeypatch.context() as patch:
        interrupt(patch, 7)
        with pytest.raises(StopError):
            train_index(dataset, tmp_path / "index", wanted)
    again = train_index(dataset, tmp_path / "index", wanted)
    assert again.metrics == manifest.metrics
    found = manifest.metrics["forgetting"]
    assert found["documents"] == 30
    assert sum(found["events"].values()) == 30
    assert found["zero_events"] == found["events"]["0"] / 30
    assert 0 < found["zero_events"] < 1
    logs = [tmp_path / name / "versions/0001/log/evaluations.jsonl" for name in ("alone", "index")]
    rows = [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[0]] == list(range(9))
    assert rows[0][-1]["never forgotten"] == found["zero_events"]
    assert rows[0][-1]["documents Success@1"] == found["memorized"]


def test_memorized_is_found_first_by_its_own_text(unlabeled, tmp_path):
    wanted = small.options(
        lexical=LexicalOptions(enabled=False),
        loop__evaluate_documents=small.DOCUMENTS,
        loop__steps=3,
    )
    manifest = train_index(unlabeled, tmp_path / "index", wanted)
    index = Index.open(tmp_path / "index", "cpu")
    texts = {d.doc_id: f"{d.title} {d.text}" for d in unlabeled.documents()}
    length = wanted.mix.document_length
    index.manifest = type(index.manifest)(
        **{**vars(index.manifest), "query_length": length}
    )  # documents may be longer than queries
    hits = index.search(list(texts.values()), k=1)
    share = np.mean([found[0].doc_id == doc for found, doc in zip(hits, texts, strict=True)])
    assert manifest.metrics["forgetting"]["memorized"] == share
    assert "best" not in manifest.metrics
