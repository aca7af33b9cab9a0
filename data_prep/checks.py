"""What options may be: each refusal is one line that names the option as a user writes it.

A dataclass of options calls these in its `__post_init__`. None stands for "not given" and passes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from data_prep.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Names = tuple[str, ...]

LARGEST = 2**31 - 1
"""The largest whole number that an option may have; a seed may have 63 bits."""

_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "positive": (lambda value: value > 0, "is not above 0"),
    "not_negative": (lambda value: value >= 0, "is negative"),
    "at_least_one": (lambda value: value >= 1, "is less than 1"),
    "below_one": (lambda value: 0 <= value < 1, "is not at least 0 and below 1"),
    "share": (lambda value: 0 < value <= 1, "is not above 0 and at most 1"),
}


def check_numbers(
    options: DataclassInstance,
    group: str = "",
    *,
    positive: Names = (),
    not_negative: Names = (),
    at_least_one: Names = (),
    below_one: Names = (),
    share: Names = (),
) -> None:
    """Refuses numbers out of their range, and in any field those that `check_number` refuses.

    Args:
        options: The options.
        group: What stands before their names on the command line: `ewc` in `--ewc.weight`.
        positive: Fields that are to be above 0.
        not_negative: Fields that are to be 0 or more.
        at_least_one: Fields that are to be 1 or more.
        below_one: Fields that are to be 0 or more, and below 1.
        share: Fields that are to be above 0, and at most 1.

    Raises:
        InputError: One of them is not.
    """
    for entry in dataclasses.fields(options):
        check_number(option_name(group, entry.name), getattr(options, entry.name))
    asked = {
        "positive": positive,
        "not_negative": not_negative,
        "at_least_one": at_least_one,
        "below_one": below_one,
        "share": share,
    }
    for kind, names in asked.items():
        within, said = _RANGES[kind]
        for name in names:
            value = getattr(options, name)
            if value is not None and not within(value):
                raise InputError(f"{option_name(group, name)} {value} {said}")


def check_number(name: str, value: object) -> None:
    """Refuses `nan`, `inf`, negative seeds, and whole numbers that no array or file could take.

    Args:
        name: The option as a user writes it.
        value: What was given for it; what is no number passes.

    Raises:
        InputError: It is such a number.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{name} {value} is no finite number")
    is_seed = name.endswith("seed")
    if is_seed and isinstance(value, int) and value < 0:
        raise InputError(f"{name} {value} is negative")
    most = 2**63 - 1 if is_seed else LARGEST
    if isinstance(value, int) and abs(value) > most:
        raise InputError(f"{name} {value!s:.24} is too large", hint=f"Give at most {most:,}")


def check_choices(options: DataclassInstance, group: str = "", **choices: Names) -> None:
    """Refuses values that are none of those that a field may have.

    Args:
        options: The options.
        group: What stands before their names on the command line.
        choices: Field -> what it may be.

    Raises:
        InputError: One of them is something else.
    """
    for name, known in choices.items():
        value = getattr(options, name)
        if value is not None and value not in known:
            raise InputError(
                f"{option_name(group, name)} {value!r} is unknown",
                hint=f"Choose from: {', '.join(known)}",
            )


def option_name(group: str, name: str) -> str:
    """Returns an option as a user writes it, such as `--ewc.weight`, or `--seed` in no group."""
    return f"--{group}.{name}" if group else f"--{name}"
