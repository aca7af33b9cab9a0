"""Sentences as evidence: which are read, in which order, and what a chain teaches."""

from __future__ import annotations

import math

import pytest

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from data_prep.evidence import (
    best_sentences,
    evidence_sentences,
    judged_examples,
    linking_sentence,
    with_evidence,
)

PEN = Document("pen", "Pens", "A pen writes on paper. It needs ink. Cats sleep.")
INK = Document("ink", "Ink", "Ink is a dye in water. Water boils.")
SEA = Document("sea", "Seas", "Water fills it.")


def test_a_sentence_longer_than_the_encoder_is_cut_into_parts():
    long = Document("long", "", "one two three four five. Six.")
    assert evidence_sentences(long, 2) == ["one two", "three four", "five.", "Six."]
    assert evidence_sentences(long, 100) == ["one two three four five.", "Six."]


@pytest.mark.parametrize(
    ("document", "sentences"),
    [
        (Document("a", "Title", "word"), ["word"]),
        (Document("a", "A title. Two", " "), ["A title.", "Two"]),
        (Document("a", "", ""), []),
        (Document("a", "", "Again. Again. Once."), ["Again.", "Once."]),
    ],
)
def test_short_empty_and_repeating_documents(document, sentences):
    assert evidence_sentences(document, 9) == sentences


def bm25_by_hand(query, texts, k1=1.5, b=0.75):
    """Lucene's BM25 with the sentences as collection."""
    lines = [text.lower().split() for text in texts]
    mean = sum(map(len, lines)) / len(lines)
    found = []
    for line in lines:
        score = 0.0
        for word in query.lower().split():
            having = sum(word in other for other in lines)
            idf = math.log(1 + (len(lines) - having + 0.5) / (having + 0.5))
            times = line.count(word)
            score += idf * times / (times + k1 * (1 - b + b * len(line) / mean))
        found.append(score)
    return found


def test_the_best_sentences_are_those_of_bm25():
    texts = ["the ink is red", "the pen has ink and ink", "the cat", "paper for the pen"]
    query = "pen with ink"
    scores = bm25_by_hand(query, texts)
    order = sorted(range(4), key=lambda place: -scores[place])
    assert best_sentences(query, texts, 4) == [texts[place] for place in order]
    assert best_sentences(query, texts, 2) == [texts[place] for place in order[:2]]


def test_a_sentence_that_tells_nothing_new_comes_last():
    texts = ["what needs ink", "ink comes in bottles", "nothing else"]
    assert best_sentences("what needs ink", texts, 3) == [*texts[1:], texts[0]]
    assert best_sentences("zebra", texts, 2) == texts[:2]
    assert best_sentences("zebra", ["...", "?"], 2) == ["...", "?"]
    assert best_sentences("zebra", [], 2) == []


def test_the_latest_sentence_is_read_first():
    assert with_evidence("who?", []) == "who?"
    assert with_evidence("who?", ["One.", "Two."]) == "who? Two. One."


def test_the_linking_sentence_tells_about_the_next_document():
    assert linking_sentence(PEN, INK, 99) == "It needs ink."
    assert linking_sentence(INK, SEA, 99) == "Water boils."
    assert linking_sentence(Document("none", "", ""), SEA, 99) == ""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A chain of three documents, one document, and judgments that are not relevant."""
    queries = [Query("q1", "Who?"), Query("q2", "Where?")]
    qrels = [
        Qrel("q1", "ink", 1, "train"),
        Qrel("q1", "pen", 2, "train"),
        Qrel("q1", "sea", 1, "train"),
        Qrel("q2", "sea", 1, "train"),
        Qrel("q2", "pen", 0, "train"),
    ]
    folder = tmp_path_factory.mktemp("chains") / "ds"
    return write_dataset(folder, InMemorySource([PEN, INK, SEA], queries, qrels))


def test_without_chains_a_query_leads_to_each_document(dataset):
    single = [("Who?", "ink"), ("Who?", "pen"), ("Who?", "sea"), ("Where?", "sea")]
    assert judged_examples(dataset, "train", "none", 99) == single
    assert judged_examples(dataset, "dev", "ordered", 99) == []


def test_an_ordered_chain_leads_from_document_to_document(dataset):
    assert judged_examples(dataset, "train", "ordered", 99) == [
        ("Who?", "ink"),
        ("Who? Ink is a dye in water.", "pen"),
        ("Who? It needs ink. Ink is a dye in water.", "sea"),
        ("Where?", "sea"),
    ]


def test_an_unordered_chain_leads_from_each_document_to_each_other(dataset):
    found = judged_examples(dataset, "train", "unordered", 99)
    assert [doc_id for _, doc_id in found] == [
        "ink", "pen", "sea", "pen", "sea", "ink", "sea", "ink", "pen", "sea",
    ]  # fmt: skip
    assert ("Who? It needs ink.", "ink") in found
    assert ("Who? Water boils.", "sea") in found
