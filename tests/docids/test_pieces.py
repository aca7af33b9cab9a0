import numpy as np
import pytest
import tiny_checkpoints
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import InputError
from docids.model_tokens import ModelTokens
from docids.pieces import DIGITS, Pieces
from docids.table import END, FIRST_CODE

STRINGS = ["the cat purrs", "the dog barks", "the cat sleeps", "a dog sleeps"]
PIECES = Pieces.train(STRINGS, 40, 0)


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Z"))))
def test_any_text_can_be_written_and_read(text):
    (pieces,) = PIECES.encode([text], 1000)
    coded = PIECES.with_codes(np.array(pieces, np.int64), FIRST_CODE + DIGITS)
    codes = [int(coded.code[piece]) for piece in pieces]
    assert all(code >= FIRST_CODE + DIGITS for code in codes)
    assert coded.text([*codes, END]).replace("▁", "") == text.replace("▁", "")


def test_codes_are_given_once_and_without_gaps():
    some = PIECES.with_codes(np.array([5, 3, 5]), 12)
    assert (some.code[3], some.code[5]) == (12, 13)
    more = some.with_codes(np.array([4, 3]), 14)
    assert (more.code[3], more.code[5], more.code[4]) == (12, 13, 14)
    assert (more.code >= 0).sum() == 3
    assert (PIECES.code == -1).all()


def test_the_same_strings_give_the_same_vocabulary():
    again = Pieces.train(STRINGS, 40, 0)
    assert again.model.tobytes() == PIECES.model.tobytes()
    assert len(PIECES.encode(["the cat"], 100)[0]) < len("the cat")
    assert PIECES.encode(["the cat", ""], 1)[1] == ()


def test_a_vocabulary_survives_as_extras():
    assert Pieces.of(PIECES.arrays()).encode(STRINGS, 9) == PIECES.encode(STRINGS, 9)
    with pytest.raises(InputError, match="have no vocabulary"):
        Pieces.of({})


def test_a_distinguishing_number_is_read_as_one():
    assert PIECES.text([FIRST_CODE + 1, FIRST_CODE + 0, END]) == " #10"


def test_a_language_models_tokens_get_codes_as_they_are_used():
    tokens = tiny_checkpoints.tokenizer_of(["the cat sleeps 1 2 0"])
    own = ModelTokens.from_json(tokens.backend_tokenizer.to_str(), tokens.eos_token_id)
    cat, the = tokens.convert_tokens_to_ids(["cat", "the"])
    assert own.encode(["the cat", "", "cat flew"], 9) == [(the, cat), (), (cat, 2)]
    coded = own.with_codes(np.array([cat, the]), FIRST_CODE + DIGITS)
    codes = [int(coded.code[the]), int(coded.code[cat]), END]
    assert coded.text(codes) == "the cat"
    again = Pieces.of(coded.arrays())
    assert isinstance(again, ModelTokens)
    assert again.same_tokenizer(own)
    size = FIRST_CODE + DIGITS + 2
    of_codes = again.tokens_of_codes(size).tolist()
    digits = tokens.convert_tokens_to_ids(["0", "1", "2"])
    assert of_codes[:5] == [-1, tokens.eos_token_id, *digits]
    assert of_codes[-2:] == sorted([cat, the])
    with pytest.raises(InputError, match="have no tokenizer"):
        Pieces.of({**coded.arrays(), "tokenizer": np.zeros(3, np.uint8)})


def test_a_tokenizer_that_drops_digits_is_refused():
    from tokenizers import Tokenizer, models

    letters = Tokenizer(models.BPE({"a": 0, "b": 1, " ": 2, "0": 3}, []))
    with pytest.raises(InputError, match="no token for 1, 2, 3, 4, 5, 6, 7, 8, 9"):
        ModelTokens.from_json(letters.to_str(), 0)


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(InputError, match="cannot learn a vocabulary of 1 pieces"):
        Pieces.train(["".join(map(chr, range(0x4E00, 0x4E00 + 500)))], 1, 0)
