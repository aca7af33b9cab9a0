"""Words and sentences, in scripts with and without spaces, left-to-right and right-to-left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.limits import LONGEST_SENTENCE, LONGEST_WORD
from data_prep.text_processing import (
    normalize,
    one_line,
    sentences,
    short_words,
    spaced,
    stopwords,
    surface_words,
    terms,
    training_lines,
    words,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One ends. Two ends! Three?", ["One ends.", "Two ends!", "Three?"]),
        ("Dr. Smith saw J. Doe. He left.", ["Dr. Smith saw J. Doe.", "He left."]),
        ("A first line\n\nanother paragraph", ["A first line", "another paragraph"]),
        ("検索する。記憶する！なぜ？", ["検索する。", "記憶する！", "なぜ？"]),
        ("本当に！？はい。", ["本当に！？", "はい。"]),
        ("「行こう。」と彼は言った。雨だ。", ["「行こう。」と彼は言った。", "雨だ。"]),
        ("他说：“你好。”然后走了。天晴。", ["他说：“你好。”然后走了。", "天晴。"]),
        ("T5是模型。它生成标识符。", ["T5是模型。", "它生成标识符。"]),
        ("ﾃｽﾄです｡次です｡", ["ﾃｽﾄです｡", "次です｡"]),
        ("القطة هنا. أين الكتاب؟ على الطاولة!", ["القطة هنا.", "أين الكتاب؟", "على الطاولة!"]),
        ("הספר כאן. איפה החתול? בבית.", ["הספר כאן.", "איפה החתול?", "בבית."]),
        ("یہ کتاب ہے۔ وہ قلم ہے۔", ["یہ کتاب ہے۔", "وہ قلم ہے۔"]),
        ("यह किताब है। वह कलम है।", ["यह किताब है।", "वह कलम है।"]),
        ("It costs 3.5 euros. ¿Qué dices? Nada.", ["It costs 3.5 euros.", "¿Qué dices?", "Nada."]),
    ],
)
def test_sentences_end_where_the_script_says(text, expected):
    assert sentences(text) == expected


@given(st.text(alphabet="ab .!?。！」「\n", max_size=40))
def test_sentences_lose_no_character_but_white_space(text):
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


def test_scripts_without_blanks_become_pairs_of_neighbors():
    assert spaced("otter swims") == "otter swims"
    assert spaced("検索モデル").split() == ["検索", "索モ", "モデ", "デル"]
    assert spaced("猫").split() == ["猫"]
    assert terms("T5は検索。Otter") == ["t5", "は検", "検索", "otter"]
    assert terms("The Otter's U-turn") == words("The Otter's U-turn")


def test_right_to_left_words_keep_their_order():
    assert words("أين الكتاب؟") == ["أين", "الكتاب"]
    assert words("הספר על השולחן") == ["הספר", "על", "השולחן"]


def test_vowel_signs_and_points_belong_to_their_word():
    assert words("यह हिन्दी की किताब है।") == ["यह", "हिन्दी", "की", "किताब", "है"]
    assert words("שָׁלוֹם עולם") == ["שָׁלוֹם".strip(), "עולם"]
    assert words("snake_case _x_ don't") == ["snake", "case", "x", "don't"]


def test_one_line_folds_white_space():
    assert one_line(" a\n b\t c ") == "a b c"


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("O'Brien", "O\u2019Brien"),
        ("O'Brien", "O\u2018Brien"),
        ("O'Brien", "O\u02bcBrien"),
        ("O'Brien", "O\uff07Brien"),
        ("O'Brien", "O`Brien"),
        ("O'Brien", "O\u00b4Brien"),
        ("cooperative", "co\u00adoperative"),
        ("cooperative", "co\u00ad\noperative"),
        ("cooperative", "co\u2060oper\ufeffative"),
        ("heart", "he\ufe0fart\u200e"),
        ("file", "\ufb01le"),
        ("caf\u00e9", "cafe\u0301"),
        ("two words", "two\u200bwords"),
        ("two words", "two\u00a0\x00words"),
        (
            "\u0645\u06cc \u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
        ("\u0633\u0644\u0627\u0645", "\u0633\u0644\u0640\u0640\u0627\u0645"),
        ("\u0995\u09cd\u09b7", "\u0995\u09cd\u200d\u09b7"),
    ],
)
def test_words_are_those_that_people_type(typed, written):
    assert normalize(written) == normalize(typed)
    assert words(written) == words(typed)
    assert terms(written) == terms(typed)
    assert surface_words(written) == surface_words(typed)


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("istanbul", "\u0130stanbul"),
        ("STRASSE", "Stra\u00dfe"),
        ("strasse", "STRA\u1e9eE"),
        ("4567", "\u0664\u0665\u0666\u0667"),
        ("python 12", "\uff30\uff39\uff34\uff28\uff2f\uff2e \uff11\uff12"),
        ("state-of-the-art", "state\u2011of\u2011the\u2010art"),
    ],
)
def test_words_are_compared_in_one_spelling(typed, written):
    assert words(written) == words(typed)
    assert terms(written) == terms(typed)


def test_stop_words_are_in_the_spelling_of_words():
    assert set(words("DA\u1e9e dass da\u00df")) <= stopwords("german")


@given(st.text(max_size=40))
def test_what_is_normalized_stays(text):
    assert normalize(normalize(text)) == normalize(text)
    assert words(normalize(text)) == words(text)


def test_a_very_long_word_is_several_words_and_none_of_it_is_lost():
    long = "acgt" * (2 * LONGEST_WORD)
    assert {len(word) for word in words(f"a {long} b")[1:-1]} == {LONGEST_WORD}
    assert "".join(words(long)) == long
    assert short_words(long).split() == words(long)
    assert short_words("a" * LONGEST_WORD) == "a" * LONGEST_WORD


def test_a_long_text_is_learned_from_in_lines():
    text = " ".join(f"word{number}" for number in range(100_000))
    lines = list(training_lines([text, "", "a\u2585b"]))
    assert max(map(len, lines)) <= LONGEST_SENTENCE
    assert " ".join(lines).split() == [*text.split(), "a", "b"]
    unspaced = "検索" * LONGEST_SENTENCE
    assert "".join(training_lines([unspaced])) == unspaced
