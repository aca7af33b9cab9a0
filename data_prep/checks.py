"""Validation of options; each error is one line that names the option as users write it.

Dataclasses of options call these functions in `__post_init__`. None means "not given" and passes.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import InputError
from data_prep.marks import literals

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Names = tuple[str, ...]

LARGEST = 2**31 - 1
"""Largest integer of an option; seeds may have 63 bits."""

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
    """Checks the ranges of numeric options, and every field by `check_number`.

    Args:
        options: The options.
        group: Their prefix on the command line: `ewc` in `--ewc.weight`.
        positive: Fields that must be above 0.
        not_negative: Fields that must be 0 or more.
        at_least_one: Fields that must be 1 or more.
        below_one: Fields that must be in [0, 1).
        share: Fields that must be in (0, 1].

    Raises:
        InputError: A value is out of its range, or not of the type of its field.
    """
    check_types(options, group)
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
    """Refuses `nan`, `inf`, negative seeds, and integers beyond any array or file size.

    Args:
        name: The option as users write it.
        value: Its value; values that are not numbers pass.

    Raises:
        InputError: The value is one of these.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{name} {value} is not a finite number")
    is_seed = name.endswith("seed")
    if is_seed and isinstance(value, int) and value < 0:
        raise InputError(f"{name} {value} is negative")
    most = 2**63 - 1 if is_seed else LARGEST
    if isinstance(value, int) and abs(value) > most:
        raise InputError(f"{name} {value!s:.24} is too large", hint=f"Give at most {most:,}")


def check_types(options: DataclassInstance, group: str = "") -> None:
    """Refuses values that are not of the type of their field.

    Args:
        options: The options.
        group: What stands before their names on the command line.

    Raises:
        InputError: One of them is not.
    """
    for name, hint in _hints(type(options)).items():
        value = getattr(options, name)
        if not any(_fits(value, member) for member in members(hint)):
            raise InputError(
                f"{option_name(group, name)} is {value!r:.80}, not {described(hint)}",
            )


@functools.cache
def _hints(kind: type[DataclassInstance]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {entry.name: hints[entry.name] for entry in dataclasses.fields(kind)}


def members(hint: Any) -> tuple[Any, ...]:
    """Returns the members of a union, or the type itself."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _fits(value: object, hint: Any) -> bool:
    """Tells whether a value is of a type; choices are the concern of `check_choices`."""
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return isinstance(value, str)
    if origin in (list, tuple, Sequence):
        return isinstance(value, Sequence) and not isinstance(value, str)
    abstract: Any = {int: numbers.Integral, float: numbers.Real}.get(hint, hint)
    if hint is Path:
        return isinstance(value, str | Path)
    return not isinstance(abstract, type) or isinstance(value, abstract)


def described(hint: Any) -> str:
    """Returns a type in words, to follow "is not"."""
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        Path: "a path",
        type(None): "null",
    }
    parts = []
    for option in members(hint):
        if typing.get_origin(option) is typing.Literal:
            parts.append(f"one of {', '.join(map(str, typing.get_args(option)))}")
        elif typing.get_origin(option) in (list, tuple, Sequence):
            parts.append("a list")
        else:
            parts.append(words.get(option, getattr(option, "__name__", str(option))))
    return " or ".join(parts)


def check_choices(options: DataclassInstance, group: str = "", **choices: Names) -> None:
    """Checks options against their choices.

    Args:
        options: The options.
        group: Their prefix on the command line.
        choices: Field -> its choices; those of a `Literal` are read from its type.

    Raises:
        InputError: A value is not one of the choices.
    """
    typed = {name: literals(hint) for name, hint in _hints(type(options)).items()}
    for name, known in {**typed, **choices}.items():
        if not known:
            continue
        value = getattr(options, name)
        if value is not None and value not in known:
            raise InputError(
                f"{option_name(group, name)} {value!r} is unknown",
                hint=f"Choose from: {', '.join(known)}",
            )


def option_name(group: str, name: str) -> str:
    """Returns an option as users write it, such as `--ewc.weight`, or `--seed` without a group."""
    return f"--{group}.{name}" if group else f"--{name}"
