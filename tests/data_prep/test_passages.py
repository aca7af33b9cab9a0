"""Documents are split into passages, judged as passages, and merged again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from data_prep.passages import PassageOptions, PassageSource, cut, document_of, folded

SOURCE = InMemorySource(
    [Document("a#passage-7", "A", "one two three four five"), Document("b", "B", "")],
    [Query("q", "who is five"), Query("t", "two?")],
    [Qrel("q", "a#passage-7", 1, "train"), Qrel("t", "a#passage-7", 2, "test")],
)


def test_passages_overlap():
    assert list(cut("one two  three four five", 3, 1)) == ["one two  three", "three four five"]
    assert list(cut("one two three four", 2)) == ["one two", "three four"]
    assert list(cut("", 3)) == [""]


@given(st.lists(st.text("abc", min_size=1), max_size=30), st.integers(1, 7), st.data())
def test_every_word_is_in_a_passage_and_none_is_too_long(words, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    pieces = [piece.split() for piece in cut(" ".join(words), size, overlap)]
    assert all(len(piece) <= size for piece in pieces)
    again = pieces[0] + [word for piece in pieces[1:] for word in piece[overlap:]]
    assert again == words


def test_ids_lead_back_to_the_document():
    source = PassageSource(SOURCE, PassageOptions(passages=2))
    ids = [document.doc_id for document in source.documents()]
    assert ids == [f"a#passage-7#passage-{n}" for n in (1, 2, 3)] + ["b#passage-1"]
    assert [document_of(doc_id) for doc_id in ids] == ["a#passage-7"] * 3 + ["b"]


def test_the_best_passage_of_a_document_counts():
    run = {"a#passage-2": 3.0, "b#passage-1": 2.0, "a#passage-1": 5.0}
    assert folded(run) == {"a": 5.0, "b": 2.0}


def test_training_judges_the_passage_with_the_words_of_the_query_and_tests_judge_all(tmp_path):
    dataset = write_dataset(tmp_path / "ds", PassageSource(SOURCE, PassageOptions(passages=2)))
    assert dataset.qrels_of("train") == {"q": {"a#passage-7#passage-3": 1}}
    assert dataset.qrels_of("test") == {"t": {f"a#passage-7#passage-{n}": 2 for n in (1, 2, 3)}}
    assert dataset.info.passages == {"passages": 2, "overlap": 0}
    assert dataset.info.origin["passages"] == {"passages": 2, "overlap": 0}


def test_a_dataset_of_whole_documents_says_nothing_of_passages(tmp_path):
    dataset = write_dataset(tmp_path / "ds", SOURCE)
    assert "passages" not in dataset.info.to_json()
    assert set(dataset.info.origin) == {"name", "content_hash"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 2}, "--overlap 2 has no effect without --passages"),
        ({"passages": 2, "overlap": 2}, "--overlap 2 is not less than --passages 2"),
        ({"passages": 0}, "--passages 0 is less than 1"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        PassageOptions(**options)
