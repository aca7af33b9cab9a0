"""Parts of the robustness benchmark: perturbed queries, and the LIMIT-like corpus."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

FOLDER = Path(__file__).parents[2] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


perturbations = load("perturbations")
limit = load("limit")
WORDS = st.lists(st.text("abcdefgXYZ?", min_size=1, max_size=9), max_size=12)


def changed(name, words, seed=0):
    return perturbations.perturbed(" ".join(words), name, seed).split()


def edits(one, other):
    """The distance of Damerau and Levenshtein, swaps of neighbors being one edit."""
    table = {(row, 0): row for row in range(len(one) + 1)}
    table |= {(0, column): column for column in range(len(other) + 1)}
    for row, column in itertools.product(range(1, len(one) + 1), range(1, len(other) + 1)):
        same = one[row - 1] == other[column - 1]
        table[row, column] = min(
            table[row - 1, column] + 1,
            table[row, column - 1] + 1,
            table[row - 1, column - 1] + (not same),
        )
        if min(row, column) > 1 and one[row - 2 : row] == other[column - 2 : column][::-1]:
            table[row, column] = min(table[row, column], table[row - 2, column - 2] + 1)
    return table[len(one), len(other)]


@given(WORDS, st.integers(0, 3))
def test_a_typo_is_one_edit_of_a_long_word(words, seed):
    for name, share in (("one typo", 0), ("typos in half the words", 0.5)):
        after = changed(name, words, seed)
        assert len(after) == len(words)
        distances = [edits(one, other) for one, other in zip(words, after, strict=True)]
        assert max(distances, default=0) <= 1
        long = [word for word in words if len(word) >= 4]
        assert sum(distances) <= min(len(long), max(1, round(share * len(long))))
        assert all(
            one[0] == other[0] and (len(one) >= 4 or one == other)
            for one, other in zip(words, after, strict=True)
        )


@given(WORDS, st.integers(0, 3))
def test_dropped_words_leave_the_others_in_order(words, seed):
    for name, share in (
        ("a quarter of the words dropped", 0.25),
        ("half of the words dropped", 0.5),
    ):
        after = changed(name, words, seed)
        assert len(after) == min(len(words), max(1, len(words) - max(1, round(share * len(words)))))
        rest = iter(words)
        assert all(word in rest for word in after)


@given(WORDS, st.integers(0, 3))
def test_order_and_case_change_nothing_else(words, seed):
    assert Counter(changed("words in any order", words, seed)) == Counter(words)
    assert changed("as they are", words, seed) == words
    assert changed("upper case", words, seed) == [word.upper() for word in words]
    assert changed("lower case", words, seed) == [word.lower() for word in words]


@pytest.mark.parametrize("name", perturbations.PERTURBATIONS)
def test_a_seed_gives_the_same_queries_again(name):
    words = ["which", "harbour", "keeps", "seven", "enormous", "lanterns", "burning"]
    assert changed(name, words, 1) == changed(name, words, 1)
    if name in ("one typo", "half of the words dropped", "words in any order"):
        assert len({tuple(changed(name, words, seed)) for seed in range(9)}) > 3


def test_every_two_of_some_documents_have_a_thing_in_common():
    source = limit.limit_source(60, seed=0)
    documents = {document.doc_id: document for document in source.documents()}
    assert len(documents) == len({document.title for document in documents.values()}) == 60
    likes = {
        doc_id: set(document.text.rstrip(".").split(" likes ")[1].split(", "))
        for doc_id, document in documents.items()
    }
    assert {len(liked) for liked in likes.values()} == {limit.LIKED}
    relevant = {}
    for qrel in source.qrels():
        relevant.setdefault(qrel.query_id, set()).add(qrel.doc_id)
    asked = {query.query_id: query.text for query in source.queries()}
    assert len(asked) == len(relevant) == limit.QUERIES
    for query_id, text in asked.items():
        thing = text.removeprefix("Who likes ").removesuffix("?")
        assert relevant[query_id] == {doc_id for doc_id in likes if thing in likes[doc_id]}
    pairs = {frozenset(pair) for pair in relevant.values()}
    assert len(pairs) == limit.QUERIES
    assert len(set().union(*pairs)) == limit.PEOPLE


def test_sizes_that_cannot_be_made_are_refused():
    for documents in (45, 10**6):
        with pytest.raises(ValueError, match="46 to"):
            limit.limit_source(documents, 0)
