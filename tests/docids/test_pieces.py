import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import InputError
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
    with pytest.raises(InputError, match="lack their vocabulary"):
        Pieces.of({})


def test_a_distinguishing_number_is_read_as_one():
    assert PIECES.text([FIRST_CODE + 1, FIRST_CODE + 0, END]) == " #10"


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(InputError, match="no vocabulary of 1 pieces"):
        Pieces.train(["".join(map(chr, range(0x4E00, 0x4E00 + 500)))], 1, 0)
