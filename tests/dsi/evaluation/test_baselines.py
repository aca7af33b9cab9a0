import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.dataset import Document, InMemorySource, write_dataset
from data_prep.errors import InputError
from dsi.evaluation.baselines import BASELINES, _best, baseline_run


def texts_of(dataset, split):
    texts = dataset.query_texts()
    return {query_id: texts[query_id] for query_id in dataset.qrels_of(split)}


def test_bm25_stems_and_drops_stop_words(small):
    run = baseline_run("bm25", small, texts_of(small, "test"))
    assert list(run["q1"]) == ["cat"]
    assert list(run["q3"]) == ["fish", "sea"]


def test_the_score_is_that_of_lucene(tmp_path):
    documents = [Document("a", "x", "apple apple pear"), Document("b", "x", "pear plum")]
    dataset = write_dataset(tmp_path / "d", InMemorySource(documents))
    run = baseline_run("bm25", dataset, {"q": "apple"}, language="none")
    # One letter is no word: lengths 3 and 2. "apple" is twice in one document of two.
    idf = math.log(1 + (2 - 1 + 0.5) / (1 + 0.5))
    expected = idf * 2 / (2 + 1.5 * (1 - 0.75 + 0.75 * 3 / 2.5))
    assert run == {"q": {"a": pytest.approx(expected, rel=1e-5)}}


def test_documents_of_score_zero_are_not_results(small):
    run = baseline_run("bm25", small, texts_of(small, "test"))
    assert run["q2"] == {}
    assert run["q4"] == {}
    assert all(score > 0 for scores in run.values() for score in scores.values())


def test_only_relevant_queries_of_split_train_are_appended(small):
    assert BASELINES["bm25+queries"](small) == [
        "Cats Cats are sleeping on the mat. feline purring",
        "Dogs Dogs bark at trees. canine walk",
        "Fish Fishes swim in the sea.",
        "Sea The sea is blue. Fishes swim in it.",
    ]
    run = baseline_run("bm25+queries", small, texts_of(small, "test"))
    assert list(run["q2"]) == ["cat"]


def test_other_languages_and_none(small):
    assert baseline_run("bm25", small, {"q": "mats"}, language="none") == {"q": {}}
    found = baseline_run("bm25", small, {"q": "the"}, language="none")
    assert found["q"].keys() == {"cat", "fish", "sea"}
    assert list(baseline_run("bm25", small, {"q": "mats"}, language="german")["q"]) == ["cat"]


@pytest.mark.parametrize("language", ["klingon", "japanese"])
def test_a_language_without_stemmer_or_stop_words_is_refused(small, language):
    with pytest.raises(InputError, match=f"language '{language}'"):
        baseline_run("bm25", small, {"q": "mats"}, language=language)


def test_an_unknown_baseline_is_refused(small):
    with pytest.raises(InputError, match=r"bm25, bm25\+queries"):
        baseline_run("bm24", small, {})


def test_a_corpus_without_any_word_finds_nothing(tmp_path):
    dataset = write_dataset(tmp_path / "d", InMemorySource([Document("a", "?", "the of")]))
    assert baseline_run("bm25", dataset, {"q": "apple"}) == {"q": {}}
    assert baseline_run("bm25", dataset, {}) == {}


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 12))
def test_the_best_rows_are_those_of_a_stable_sort(values, k):
    scores = np.array(values, np.float32)
    expected = sorted((row for row in range(len(values)) if values[row]), key=lambda r: -values[r])
    assert _best(scores, k).tolist() == expected[:k]
