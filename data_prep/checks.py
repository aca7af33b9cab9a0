"""Option dataclasses that validate themselves by the types of their fields.

They extend `Options`. The type of a field defines which values it accepts (`data_prep.marks`). An
option without effect is refused as well. An error is one line that names the option as users write
it.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import math
import numbers
import operator
import os
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from data_prep.errors import InputError
from data_prep.marks import (
    MAY_BE_EMPTY,
    Excludes,
    Names,
    Needs,
    Only,
    Range,
    choices_of,
    hints_of,
    marks_of,
    members,
)

T = TypeVar("T")
LARGEST = 2**31 - 1
"""Largest integer of an option whose type does not say otherwise."""
_STORED = contextvars.ContextVar("stored", default=False)


@dataclasses.dataclass(frozen=True)
class Options:
    """The base class of option dataclasses, which are frozen and validated on creation.

    Subclasses are declared with

        group: Their prefix on the command line: `ewc` in `--ewc.weight`.
        switch: The field that enables all other fields of the group.

    as in `class SamOptions(Options, group="sam", switch="rho")`.

    Raises:
        InputError: A value is not allowed, or has no effect. The message names the option, its
            value, and what is allowed.
    """

    _group: ClassVar[str] = ""
    _switch: ClassVar[str | None] = None

    def __init_subclass__(cls, group: str | None = None, switch: str | None = None) -> None:
        """Takes the declarations."""
        cls._group = cls._group if group is None else group
        cls._switch = cls._switch if switch is None else switch

    def __post_init__(self) -> None:
        """Checks the values."""
        hints = _hints(type(self))
        for name, hint in hints.items():
            check_value(self.option(name), getattr(self, name), hint)
        for name in given(self):
            marks = marks_of(hints[name])
            if self._switch not in (None, name):
                marks += (Needs(str(self._switch)),)
            self._check_dependencies(name, marks)
        self.conflicts()

    def conflicts(self) -> None:
        """Refuses combinations of values that the types of the fields cannot express.

        Raises:
            InputError: There is one.
        """

    def option(self, name: str) -> str:
        """Returns an option as users write it, such as `--ewc.weight`."""
        return f"--{self._group}.{name}" if self._group else f"--{name}"

    def written(self, name: str) -> str:
        """Returns an option with its value, as users write it; for a group, `--sam.*`."""
        value = getattr(self, name)
        if dataclasses.is_dataclass(value):
            return f"{self.option(name)}.*"
        return f"{self.option(name)} {_shown(value)}"

    def _check_dependencies(self, name: str, marks: Sequence[Any]) -> None:
        for mark in marks:
            if isinstance(mark, Excludes) and mark.option in given(self):
                raise InputError(
                    f"{self.written(name)} and {self.written(mark.option)} {mark.why}",
                    hint="Omit one of them",
                )
            if not isinstance(mark, Needs):
                continue
            value = operator.attrgetter(mark.option)(self)
            if value in mark.values if mark.values else value:
                continue
            other = self.option(mark.option)
            why = f"while {other} is {_shown(value)}"
            if mark.shown or value is None:
                why = f"without {mark.shown or other}"
            requirement = mark.shown or " ".join([other, *map(str, mark.values[:1])])
            refuse_unread(self, [name], why, hint=f"Omit it, or give {requirement}")


def refuse_unread(options: Any, names: Iterable[str], why: str, *, hint: str = "Omit it") -> None:
    """Refuses options that were given but have no effect.

    Args:
        options: An object of options, or a group of them.
        names: The options without effect.
        why: Why they have none, to follow "has no effect": "with --docids atomic".
        hint: What to do about it; `{name}` is replaced by the name of the option.

    Raises:
        InputError: One of them differs from its default. Options that were stored are left alone.
    """
    if _STORED.get():
        return
    for name in sorted(set(names) & set(given(options))):
        written = Options.written(options, name)
        raise InputError(f"{written} has no effect {why}", hint=hint.format(name=name))


def given(options: Any) -> list[str]:
    """Returns the names of the fields of options that differ from their defaults, in order."""
    return [
        entry.name
        for entry in dataclasses.fields(options)
        if entry.init and getattr(options, entry.name) != _default(entry)
    ]


def _default(entry: dataclasses.Field[Any]) -> Any:
    factory = entry.default_factory
    return entry.default if factory is dataclasses.MISSING else factory()


@contextlib.contextmanager
def stored_options() -> Iterator[None]:
    """Accepts options without effect inside the block.

    Options stored in an index are not validated again when it is opened: which of them have an
    effect, and their defaults, may have changed since it was trained.
    """
    token = _STORED.set(True)
    try:
        yield
    finally:
        _STORED.reset(token)


def check_value(option: str, value: object, hint: Any) -> None:
    """Checks a value against a type and its marks.

    Args:
        option: The option as users write it.
        value: Its value.
        hint: The type. Integers without bounds are between -`LARGEST` and `LARGEST`.

    Raises:
        InputError: The value is of another type, out of range, not finite, not one of the choices
            or an empty text.
    """
    fitting = [member for member in members(hint) if _fits(value, member[0])]
    if not fitting:
        raise InputError(f"{option} is {_shown(value, quoted=True)}, not {described(hint)}")
    kind, marks = fitting[0]
    if isinstance(value, str):
        _check_text(option, value, kind, marks)
    elif isinstance(value, numbers.Real) and not isinstance(value, bool):
        _check_number(option, value, marks)


def _check_text(option: str, value: str, kind: Any, marks: Sequence[Any]) -> None:
    choices = choices_of(kind)
    for mark in marks:
        if isinstance(mark, Names):
            choices = tuple(mark.names())
            if value in mark.former:
                raise InputError(
                    f"{option} {value} is no longer supported",
                    hint=f"Use {option} {mark.former[value]}",
                )
            if mark.other(value):
                return
    if choices and value not in choices:
        raise InputError(
            f"{option} {_shown(value, quoted=True)} is unknown",
            hint=f"Choose from: {', '.join(choices)}",
        )
    if not value.strip() and MAY_BE_EMPTY not in marks:
        raise InputError(f"{option} is empty", hint="Give a value, or omit the option")


def _check_number(option: str, value: Any, marks: Sequence[Any]) -> None:
    bounds = next((mark for mark in marks if isinstance(mark, Range)), Range())
    is_integer = isinstance(value, numbers.Integral)
    if not is_integer and not math.isfinite(value):
        raise InputError(f"{option} {value} is not a finite number")
    if is_integer and abs(value) > LARGEST and (bounds.le is None or value < 0):
        raise InputError(f"{option} {_shown(value)} is too large", hint=f"Give at most {LARGEST:,}")
    if value not in bounds:
        raise InputError(f"{option} {_shown(value)} {bounds.refusal}")
    for mark in marks:
        if isinstance(mark, Only) and not mark.test(value):
            raise InputError(f"{option} {_shown(value)} is not {mark.described}")


def _shown(value: object, *, quoted: bool = False) -> str:
    """Returns a value as users write it, cut where it is long."""
    try:
        text = repr(value) if quoted else str(value)
    except ValueError:  # more digits than Python prints
        return "a number of thousands of digits"
    text = {"True": "true", "False": "false", "None": "null"}.get(text, text)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _hints(kind: type) -> dict[str, Any]:
    hints, options_class = hints_of(kind), typing.cast("Any", kind)
    return {entry.name: hints[entry.name] for entry in dataclasses.fields(options_class)}


def _fits(value: object, kind: Any) -> bool:
    """Tells whether a value is of a type, regardless of bounds and choices."""
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return isinstance(value, str)
    if isinstance(origin, type) and issubclass(origin, Collection):
        return (
            isinstance(value, Sequence if issubclass(origin, Sequence) else origin)
            and not isinstance(value, str)
            and all(_fits(each, typing.get_args(kind)[0]) for each in value)
        )
    if kind in (int, float):
        abstract = numbers.Integral if kind is int else numbers.Real
        return isinstance(value, abstract) and not isinstance(value, bool)
    if kind is Path:
        return isinstance(value, Path) or (isinstance(value, str) and value != "")
    return not isinstance(kind, type) or isinstance(value, kind)


def as_path(value: object, name: str) -> Path:
    """Converts a path argument of a Python call.

    Raises:
        InputError: It is something else, or contains what no path can.
    """
    if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes):
        raise InputError(
            f"{name} is {with_article(value)}, not a path", hint="Give the path of a folder"
        )
    path = os.fspath(value)
    try:
        is_valid = "\0" not in path and bool(os.fsencode(path))
    except UnicodeEncodeError:
        is_valid = False
    if not is_valid:
        raise InputError(f"{name} is {path!r:.80}, which is not a path", hint="Give another")
    return Path(path)


def of_type(options: T | None, expected: type[T], name: str = "options") -> T | None:
    """Returns options, after checking their class.

    Raises:
        InputError: They are something else.
    """
    if options is None or isinstance(options, expected):
        return options
    raise InputError(
        f"{name} is {with_article(options)}, not a {expected.__name__}",
        hint=f"Give dsi.{expected.__name__}(...), or omit it",
    )


def as_list(values: Iterable[Any], name: str) -> list[Any]:
    """Converts an argument of a Python call, one text or several, to a list.

    Raises:
        InputError: They are bytes, a mapping, or nothing that can be iterated over.
    """
    if isinstance(values, str):
        return [values]
    if not isinstance(values, Iterable) or isinstance(values, bytes | Mapping):
        raise InputError(
            f"{name} is {with_article(values)}", hint="Give a text, or several in a list"
        )
    return list(values)


def with_article(value: object) -> str:
    """Returns the name of a value's type, to follow "is"."""
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


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
    for kind, _ in members(hint):
        origin = typing.get_origin(kind)
        if origin is typing.Literal:
            parts.append(f"one of {', '.join(map(str, typing.get_args(kind)))}")
        elif isinstance(origin, type) and issubclass(origin, Collection):
            parts.append("a list")
        else:
            parts.append(words.get(kind, getattr(kind, "__name__", str(kind))))
    return " or ".join(parts)
