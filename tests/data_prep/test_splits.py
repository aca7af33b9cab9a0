"""Splits are partitions: no loss, no duplicates, no leakage, deterministic."""

from collections import Counter
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.errors import InputError
from data_prep.splits import (
    SplitSource,
    increment_shares,
    queries_of_parts,
    split_documents,
    split_queries,
)
from data_prep.text_processing import normalize

ids = st.lists(st.text(min_size=1, max_size=4), unique=True, min_size=1, max_size=60)
seeds = st.integers(0, 5)


@given(
    st.dictionaries(st.text(max_size=3), st.sampled_from(["a", "A ", "b", "c", "d", "e", "f"])),
    st.floats(0, 0.45),
    st.floats(0, 0.45),
    seeds,
)
def test_queries_are_partitioned_and_equal_texts_stay_together(texts, dev, test, seed):
    split = split_queries(texts, dev_fraction=dev, test_fraction=test, seed=seed)
    assert list(split) == list(texts)
    by_text = {}
    for query_id, name in split.items():
        assert by_text.setdefault(normalize(texts[query_id]), name) == name
    sizes = Counter(by_text.values())
    assert sizes["dev"] == round(dev * len(by_text))
    assert sizes["test"] == round(test * len(by_text))
    backwards = dict(reversed(texts.items()))
    assert split_queries(backwards, dev_fraction=dev, test_fraction=test, seed=seed) == split


@pytest.mark.parametrize(("dev", "test"), [(-0.1, 0), (0, -0.1), (0.5, 0.5), (1.0, 0)])
def test_impossible_shares_are_refused(dev, test):
    with pytest.raises(InputError, match="fraction"):
        split_queries({"q": "text"}, dev_fraction=dev, test_fraction=test, seed=0)


def source_of(*splits):
    queries = [Query(f"q{n}", f"text {n}") for n in range(10 * len(splits))]
    qrels = [
        Qrel(f"q{10 * number + n}", "d", 1, split)
        for number, split in enumerate(splits)
        for n in range(10)
    ]
    return InMemorySource([Document("d", "", "x")], queries, qrels, license="CC0-1.0")


class TestSplitSource:
    def test_shares_are_taken_from_train_and_the_rest_stays(self):
        split = SplitSource(source_of("train", "test"), dev_fraction=0.2, test_fraction=0, seed=0)
        assert Counter(q.split for q in split.qrels()) == {"train": 8, "dev": 2, "test": 10}
        assert [q.split for q in split.qrels()][10:] == ["test"] * 10
        assert split.license == "CC0-1.0"
        assert len(list(split.queries())) == 20
        assert len(list(split.documents())) == 1

    @pytest.mark.parametrize("name", ["train", "dev", "test"])
    def test_a_single_split_counts_as_none(self, name):
        split = SplitSource(source_of(name), dev_fraction=0.1, test_fraction=0.3, seed=0)
        assert Counter(q.split for q in split.qrels()) == {"train": 6, "dev": 1, "test": 3}

    def test_a_split_that_exists_is_not_made_again(self):
        with pytest.raises(InputError, match="already"):
            SplitSource(source_of("train", "test"), dev_fraction=0, test_fraction=0.5, seed=0)

    @pytest.mark.parametrize("splits", [(), ("dev", "test")])
    def test_there_must_be_something_to_take_from(self, splits):
        with pytest.raises(InputError, match="need training judgments"):
            SplitSource(source_of(*splits), dev_fraction=0.1, test_fraction=0, seed=0)

    def test_another_seed_is_another_split(self):
        def held_out(seed):
            split = SplitSource(source_of("train"), dev_fraction=0, test_fraction=0.5, seed=seed)
            return {q.query_id for q in split.qrels() if q.split == "test"}

        assert held_out(0) == held_out(0)
        assert len({frozenset(held_out(seed)) for seed in range(5)}) > 1


@given(ids, st.lists(st.integers(1, 9), min_size=1, max_size=6), seeds)
def test_documents_are_partitioned_in_their_order(doc_ids, sizes, seed):
    shares = [size / sum(sizes) for size in sizes]
    try:
        parts = split_documents(doc_ids, shares, seed)
    except InputError:
        # Some part would get fewer than one and a half documents.
        assert min(shares) * len(doc_ids) < 1.5
        return
    assert sorted(chain(*parts)) == sorted(doc_ids)
    for part, share in zip(parts, shares, strict=True):
        assert part == [doc_id for doc_id in doc_ids if doc_id in set(part)]
        assert abs(len(part) - share * len(doc_ids)) <= 1
    again = split_documents(doc_ids[::-1], shares, seed)
    assert [set(part) for part in again] == [set(part) for part in parts]


def test_increments_have_equal_shares_of_the_rest():
    assert increment_shares(0.5, 5) == pytest.approx([0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
    parts = split_documents([str(n) for n in range(100)], increment_shares(0.5, 5), 0)
    assert [len(part) for part in parts] == [50, 10, 10, 10, 10, 10]


@pytest.mark.parametrize(("first", "increments"), [(0, 5), (1, 5), (0.5, 0)])
def test_impossible_increments_are_refused(first, increments):
    with pytest.raises(InputError):
        increment_shares(first, increments)


@pytest.mark.parametrize(
    ("doc_ids", "shares"), [(["a"], [0.5, 0.6]), (["a"], []), (["a"], [0.5, 0.5])]
)
def test_impossible_parts_are_refused(doc_ids, shares):
    with pytest.raises(InputError):
        split_documents(doc_ids, shares, 0)


@given(
    ids,
    st.dictionaries(
        st.text(max_size=2), st.dictionaries(st.integers(0, 70), st.integers(0, 2)), max_size=20
    ),
    seeds,
)
def test_a_query_comes_with_the_last_of_its_documents(doc_ids, judged, seed):
    shares = [0.5, 0.5] if len(doc_ids) > 1 else [1.0]
    parts = split_documents(doc_ids, shares, seed)
    known = [*doc_ids, *["unknown"] * 71]
    qrels = {q: {known[n]: rel for n, rel in docs.items()} for q, docs in judged.items()}
    found = queries_of_parts(qrels, parts)
    assert max(Counter(chain(*found)).values(), default=1) == 1
    so_far: set[str] = set()
    for part, queries in zip(parts, found, strict=True):
        before = set(so_far)
        so_far |= set(part)
        for query in queries:
            relevant = {doc_id for doc_id, rel in qrels[query].items() if rel > 0}
            assert relevant
            assert relevant <= so_far
            assert not relevant <= before
