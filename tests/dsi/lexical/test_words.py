"""Tokenization in the lexical layer."""

import pytest

from dsi.lexical.words import STOPPED, UNKNOWN, Vocabulary, has_code


def split(text: str, title: str = "", **options) -> list[str]:
    vocabulary = Vocabulary(options.pop("language", "none"), **options)
    tokens = vocabulary.split([title], [text], grow=True)
    return [vocabulary.words[number] for number in tokens.words.tolist()]


def test_a_word_is_in_lower_case_and_has_two_letters_or_more():
    assert split("A Cat sat on 42 mats, x y") == ["cat", "sat", "on", "42", "mats"]


def test_stop_words_are_left_out_and_words_are_stemmed():
    assert split("The cats were running", language="english") == ["cat", "were", "run"]


def test_the_title_comes_first():
    assert split("sat there", title="The cat") == ["the", "cat", "sat", "there"]


def test_scripts_without_blanks_are_split_into_pairs_of_characters():
    assert split("東京都") == ["東京", "京都"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("readFile", ["readfile", "read", "file"]),
        ("read_file", ["read_file", "read", "file"]),
        ("HTTPServer", ["httpserver", "http", "server"]),
        ("os.path.join", ["os.path.join", "os", "path", "join"]),
        ("plain words", ["plain", "words"]),
        ("Python 3", ["python"]),
    ],
)
def test_identifiers_of_code_are_split_beside_the_whole(text, words):
    assert split(text, code=True) == words
    assert "_" in text or "." in text or len(split(text)) <= 2


def test_code_is_found_where_a_twentieth_of_the_texts_hold_some():
    prose = ["nothing of the kind"] * 19
    assert has_code([*prose, "call read_file() first"])
    assert not has_code([*prose, *prose, "call read_file() first"])
    assert not has_code([])


def test_occurrences_know_their_sentence_title_and_case():
    vocabulary = Vocabulary("none")
    tokens = vocabulary.split(["Cat"], ["Dogs bark. cats Meow"], grow=True)
    assert tokens.titles.tolist() == [True, False, False, False, False]
    assert tokens.capitals.tolist() == [True, True, False, False, True]
    first, second, third, fourth, fifth = tokens.sentences.tolist()
    assert first < second == third
    assert fourth == fifth
    # "cats" in lower case does not begin a sentence.
    assert third == fourth


def test_a_vocabulary_that_does_not_grow_marks_what_it_does_not_know():
    vocabulary = Vocabulary("english")
    vocabulary.split([""], ["cats"], grow=True)
    tokens = vocabulary.split([""], ["the cat barks"], grow=False)
    assert tokens.words.tolist() == [0, UNKNOWN]
    assert vocabulary.number("the", grow=False) == STOPPED
    assert len(vocabulary) == 1


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("istanbul", "\u0130stanbul"),
        ("STRASSE", "Stra\u00dfe"),
        ("4567", "\u0664\u0665\u0666\u0667"),
        ("o'brien", "O\u2019Brien"),
        ("cooperative", "co\u00adoperative"),
    ],
)
def test_a_query_finds_the_word_in_another_spelling(typed, written):
    vocabulary = Vocabulary("english")
    documents = vocabulary.split([""], [written], grow=True).words.tolist()
    assert documents
    assert vocabulary.split([""], [typed], grow=False).words.tolist() == documents
