"""Options of the lexical layer are refused before any work starts."""

import pytest

from data_prep.errors import InputError
from dsi.lexical.options import LexicalOptions


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.0},
        {"k1": 0.0},
        {"b": 0.0},
        {"b": 1.0},
        {"pairs": -0.1},
        {"title_weight": 0.0},
        {"steps": -1},
        {"candidates": 1},
        {"holdout": 1.0},
        {"code": "maybe"},
        {"enabled": False, "steps": 10},
    ],
)
def test_what_makes_no_sense_is_refused_by_name(options):
    with pytest.raises(InputError, match=f"--lexical.{list(options)[-1]}"):
        LexicalOptions(**options)


def test_it_can_be_off():
    assert not LexicalOptions(enabled=False).enabled
