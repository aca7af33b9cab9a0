"""Words and sentences, in scripts with blanks and without, from left and from right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.text import one_line, sentences, spaced, terms, words


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


def test_scripts_without_blanks_become_pairs_of_neighbours():
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
