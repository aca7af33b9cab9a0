"""BM25: rankings follow the scores, in scripts with and without spaces."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.bm25 import Bm25
from data_prep.errors import InputError

WORDS = ["otter", "heron", "bridge", "valley", "berry"]


def lucene(query, texts, k1=1.5, b=0.75):
    """The formula, word by word: ln(1 + (N - n + 0.5) / (n + 0.5)) tf / (tf + k1 (1 - b + b L))."""
    lines = [text.split() for text in texts]
    mean = sum(map(len, lines)) / len(lines)
    scores = []
    for line in lines:
        score = 0.0
        for word in query.split():
            n = sum(word in other for other in lines)
            tf = line.count(word)
            norm = tf + k1 * (1 - b + b * len(line) / mean)
            score += math.log(1 + (len(lines) - n + 0.5) / (n + 0.5)) * tf / norm
        scores.append(score)
    return scores


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=5), min_size=2, max_size=6),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=3, unique=True),
    st.data(),
)
def test_scores_and_ranks_are_those_of_the_formula(lines, query, data):
    texts = [" ".join(line) for line in lines]
    row = data.draw(st.integers(0, len(texts) - 1))
    bm25 = Bm25(texts, "none")
    asked = " ".join(query)
    expected = lucene(asked, texts)
    assert bm25.scores(query).tolist() == pytest.approx(expected, abs=1e-5)
    scores = bm25.scores(query).tolist()
    order = sorted(range(len(texts)), key=lambda n: (-scores[n], n))
    rank = order.index(row) + 1 if expected[row] > 0 else 0
    assert bm25.ranks([asked], [row]).tolist() == [rank]


def test_a_query_without_a_known_word_finds_nothing():
    assert Bm25(["otter", "heron"]).ranks(["zebra", ""], [0, 1]).tolist() == [0, 0]
    assert Bm25(["?", "!"]).ranks(["otter"], [0]).tolist() == [0]


def test_scripts_without_blanks_are_searched_by_pairs_of_characters():
    texts = ["検索モデルは文書を記憶する。", "猫は魚を食べる。", "生成检索用一个模型。"]
    bm25 = Bm25(texts, "none")
    assert bm25.ranks(["文書の記憶", "猫と魚を", "检索模型"], [0, 1, 2]).tolist() == [1, 1, 1]
    assert bm25.ranks(["猫"], [0]).tolist() == [0]


def test_right_to_left_scripts_are_searched_by_words():
    texts = ["القطة تأكل السمك في البيت", "الكتاب على الطاولة", "הספר על השולחן"]
    bm25 = Bm25(texts, "none")
    assert bm25.ranks(["أين الكتاب؟", "ماذا تأكل القطة؟", "הספר"], [1, 0, 2]).tolist() == [1, 1, 1]


def test_vowel_signs_do_not_cut_words():
    texts = ["यह हिन्दी की किताब है।", "वह कलम है।"]
    assert Bm25(texts, "none").ranks(["किताब", "कलम"], [0, 1]).tolist() == [1, 1]


def test_words_are_those_of_bm25s_where_there_are_no_marks():
    import bm25s

    text = "The Otter's U-turn, in 1_000 m² of über-cold water... a B2 c'est-à-dire x y"
    typed = text.replace("m²", "m2")
    expected = bm25s.tokenize([typed], stopwords=[], return_ids=False, show_progress=False)[0]
    assert next(Bm25([text], "none").tokenize([text])) == expected


def test_an_unknown_language_is_told():
    with pytest.raises(InputError, match="klingon"):
        Bm25(["otter"], "klingon")


def test_printed_and_typed_characters_are_the_same_words():
    bm25 = Bm25(["Einstein\u2019s theory", "the co\u00adoperative sells", "\uff27\uff30\uff35"])
    assert bm25.ranks(["einstein", "cooperative", "gpu"], [0, 1, 2]).tolist() == [1, 1, 1]
