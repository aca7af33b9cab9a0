"""Validation of options, and errors that name the invalid one."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import pytest

from data_prep.checks import check_choices, check_numbers
from data_prep.errors import InputError


@dataclass
class Options:
    rate: float | None = 0.5
    count: int = 1
    form: str | None = "round"


@pytest.mark.parametrize(
    ("kind", "good", "bad", "said"),
    [
        ("positive", (1e-9, 3.0), (0.0, -1.0), "is not above 0"),
        ("not_negative", (0.0, 3.0), (-1e-9,), "is negative"),
        ("at_least_one", (1.0, 3.0), (0.0, 0.5), "is less than 1"),
        ("below_one", (0.0, 0.99), (-0.1, 1.0), "is not at least 0 and below 1"),
        ("share", (1e-9, 1.0), (0.0, 1.1), "is not above 0 and at most 1"),
    ],
)
def test_a_number_out_of_range_is_named_as_the_user_writes_it(kind, good, bad, said):
    for value in (*good, None):
        check_numbers(Options(rate=value), "group", **{kind: ("rate",)})
    for value in bad:
        with pytest.raises(InputError, match=re.escape(f"--group.rate {value} {said}.")):
            check_numbers(Options(rate=value), "group", **{kind: ("rate",)})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_field_is_without_a_finite_number(value):
    with pytest.raises(InputError, match=rf"^--rate {value} is not a finite number\.$"):
        check_numbers(Options(rate=value), at_least_one=("count",))


def test_a_choice_is_one_of_those_there_are_or_not_made():
    for value in ("round", "square", None):
        check_choices(Options(form=value), form=("round", "square"))
    with pytest.raises(
        InputError, match=r"^--a\.form 'flat' is unknown\. Choose from: round, square\.$"
    ):
        check_choices(Options(form="flat"), "a", form=("round", "square"))


@pytest.mark.parametrize("count", [2**31, -(2**31), 10**20])
def test_whole_numbers_that_nothing_could_take_are_refused_in_any_field(count):
    check_numbers(Options(count=2**31 - 1))
    with pytest.raises(InputError, match=rf"--zoo\.count {count} is too large"):
        check_numbers(Options(count=count), "zoo")
