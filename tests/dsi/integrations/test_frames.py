"""Hits as a pandas DataFrame, and the order of documents in long prompts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import InputError
from dsi.index import Hit
from dsi.integrations.pandas import to_frame
from dsi.search.reordering import at_both_ends

HITS = [[Hit("a", -0.5, "A"), Hit("b", -1.0, "")], [], [Hit("a", -2.0, "A")]]


def test_a_row_a_hit():
    frame = to_frame(HITS, ["x", "y", "z"])
    assert frame.columns.tolist() == ["query_id", "query", "rank", "score", "doc_id", "title"]
    assert frame.values.tolist() == [
        ["1", "x", 1, -0.5, "a", "A"],
        ["1", "x", 2, -1.0, "b", ""],
        ["3", "z", 1, -2.0, "a", "A"],
    ]


def test_one_query_is_a_frame_too_and_texts_are_a_column():
    frame = to_frame([Hit("a", -0.5, "A", "Text")], "x", ["q7"])
    assert frame.loc[0].to_dict() == {
        "query_id": "q7", "query": "x", "rank": 1, "score": -0.5, "doc_id": "a", "title": "A",
        "text": "Text",
    }  # fmt: skip


def test_without_hits_the_columns_are_there():
    frame = to_frame([[], []])
    assert len(frame) == 0
    assert frame.columns.tolist() == ["query_id", "rank", "score", "doc_id", "title"]
    assert (frame["rank"].dtype, frame["score"].dtype) == ("int64", "float64")


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="2 queries for 3 lists"):
        to_frame(HITS, ["x", "y"])


def test_an_index_gives_what_it_finds(small_index):
    queries = ["what boils water", "yeast"]
    frame = to_frame(small_index.search(queries, k=2, with_text=True), queries)
    assert frame[frame["rank"] == 1]["doc_id"].tolist() == ["kettle", "bread"]
    assert frame.loc[0, "text"] == "A kettle boils water for tea."


@pytest.mark.parametrize(
    ("ranked", "ordered"),
    [
        ([], []),
        ([1], [1]),
        ([1, 2], [1, 2]),
        ([1, 2, 3], [1, 3, 2]),
        ([1, 2, 3, 4, 5, 6, 7], [1, 3, 5, 7, 6, 4, 2]),
    ],
)
def test_the_best_stand_at_both_ends(ranked, ordered):
    assert at_both_ends(ranked) == ordered


@given(st.integers(1, 50))
def test_the_nearer_to_an_end_the_better(count):
    ordered = at_both_ends(range(1, count + 1))
    assert sorted(ordered) == list(range(1, count + 1))
    worst = ordered.index(count)
    assert ordered[: worst + 1] == sorted(ordered[: worst + 1])
    assert ordered[worst:] == sorted(ordered[worst:], reverse=True)
