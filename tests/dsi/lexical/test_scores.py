"""Untrained, the layer is BM25; with pairs of words, BM25 over words and pairs."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lexical_oracles import NONE, bm25, documents_of, pairs_of

from data_prep.bm25 import Bm25
from dsi.lexical.layer_builder import LexicalIndex
from dsi.lexical.options import LexicalOptions

WORDS = ["cat", "dog", "owl", "sat", "ran", "mat"]
sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8)
corpora = st.lists(sentences, min_size=1, max_size=6)


def layer_of(documents, **options):
    texts = [" ".join(words) for words in documents]
    made = LexicalIndex.build(
        documents_of(texts),
        language="none",
        options=LexicalOptions(**options),
        labeled=NONE,
        dev=NONE,
        seed=0,
    )
    return made.layer()


@given(corpora, sentences)
def test_words_alone_are_bm25(documents, query):
    found = layer_of(documents, pairs=0.0, k1=1.3, b=0.6).scores([" ".join(query)])[0]
    wanted = [bm25(query, documents, row, 1.3, 0.6) for row in range(len(documents))]
    assert found == pytest.approx(wanted, rel=1e-5)


@given(corpora, sentences)
def test_pairs_add_the_bm25_of_neighbors_times_their_weight(documents, query):
    found = layer_of(documents, pairs=0.25, k1=1.3, b=0.6).scores([" ".join(query)])[0]
    pairs = [pairs_of(words) for words in documents]
    mean = sum(map(len, documents)) / len(documents)
    for row, words in enumerate(documents):
        wanted = bm25(query, documents, row, 1.3, 0.6)
        for pair in pairs_of(query):  # each counts once, however often it is in the query
            count = pairs[row][pair]
            frequency = sum(pair in each for each in pairs)
            idf = math.log(1 + (len(documents) - frequency + 0.5) / (frequency + 0.5))
            length = 1.3 * (1 - 0.6 + 0.6 * len(words) / mean)
            wanted += 0.25 * idf * count / (count + length)
        assert found[row] == pytest.approx(wanted, rel=1e-5)


def test_the_ranking_is_that_of_bm25s(build):
    texts = [
        "The quick brown fox jumps over the lazy dog.",
        "A fox is quick; quick foxes are brown.",
        "Dogs sleep all day long, and foxes do not.",
        "",
    ]
    queries = ["quick fox", "sleeping dog", "brown", "nothing known"]
    layer = LexicalIndex.build(
        documents_of(texts),
        language="english",
        options=LexicalOptions(pairs=0.0),
        labeled=NONE,
        dev=NONE,
        seed=0,
    ).layer()
    other = Bm25(texts, "english")
    wanted = [other.scores(next(other.tokenize([query]))) for query in queries]
    # bm25s includes the empty document in the mean length.
    assert layer.scores(queries) == pytest.approx(np.array(wanted), rel=1e-4)


def test_a_word_in_the_title_counts_as_often_as_it_is_told_to(build):
    titles, texts = ["owl", ""], ["ran", "owl ran"]
    once, often = (
        build(titles, texts, pairs=0.0, title_weight=weight).layer().scores(["owl"])[0]
        for weight in (1.0, 5.0)
    )
    assert once[0] == once[1] == often[1]
    idf = math.log(1 + 0.5 / 2.5)
    assert often[0] == pytest.approx(idf * 5 / (5 + 1.5), rel=1e-5)


def test_neighbors_in_two_sentences_are_no_pair(build):
    layer = build(["", ""], ["The owl. Cats ran", "The owl cats ran"], pairs=1.0).layer()
    apart, together = layer.scores(["owl cats"])[0]
    assert together > apart


def test_a_query_without_a_known_word_scores_nothing(build):
    layer = build([""], ["owl"]).layer()
    assert layer.scores(["unheard of", "owl"]).tolist()[0] == [0.0]
    assert layer.scores([]).shape == (0, 1)


def test_a_corpus_without_any_word_scores_nothing(build):
    assert build(["", ""], ["", "?"]).layer().scores(["owl"]).tolist() == [[0.0, 0.0]]
