"""Marks on the type of an option: its range, its choices, what it depends on, where help shows it.

The type of a dataclass field, or of a parameter of a command, carries them:

    dropout: Advanced[Rate] = 0.0
    generator: Annotated[str, Names(lambda: GENERATORS)] = "auto"
    encoder_weight: Annotated[Positive, Needs("encoder")] = 16.0

`data_prep.checks` refuses values outside of them, and the help prints them.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Annotated, Any, TypeVar

T = TypeVar("T")
ADVANCED = "advanced"
Advanced = Annotated[T, ADVANCED]
"""An option, or a group of options, that only `--help-all` shows."""
MAY_BE_EMPTY = "may be empty"
_LARGEST_INT64 = 2**63 - 1
LARGEST_RANK = 16_384
"""Largest rank of an adapter: hardly any model has wider matrices."""


@dataclass(frozen=True)
class Range:
    """Bounds of a number.

    Args:
        ge: It is at least this.
        le: It is at most this.
        gt: It is above this.
        lt: It is below this.
    """

    ge: float | None = None
    le: float | None = None
    gt: float | None = None
    lt: float | None = None

    def __contains__(self, value: float) -> bool:
        """Whether a finite number is within the bounds."""
        return (
            (self.ge is None or value >= self.ge)
            and (self.le is None or value <= self.le)
            and (self.gt is None or value > self.gt)
            and (self.lt is None or value < self.lt)
        )

    @property
    def refusal(self) -> str:
        """What is wrong with a number outside the bounds, to follow the number."""
        low = f"at least {self.ge}" if self.ge is not None else f"above {self.gt}"
        high = f"at most {self.le}" if self.le is not None else f"below {self.lt}"
        if self.le is not None or self.lt is not None:
            return f"is not {low} and {high}"
        if self.ge == 0:
            return "is negative"
        return f"is not {low}" if self.ge is None else f"is less than {self.ge}"

    def __str__(self) -> str:
        """Returns the bounds in mathematical notation, to follow the type in help."""
        opening = f"({self.gt}" if self.ge is None else f"[{self.ge}"
        if self.le not in (None, _LARGEST_INT64) or self.lt is not None:
            closing = f"{self.lt})" if self.le is None else f"{self.le}]"
            return f"in {opening}, {closing}"
        return f"> {self.gt}" if self.ge is None else f">= {self.ge}"


@dataclass(frozen=True)
class Only:
    """A property that a number must have.

    Args:
        test: Whether a number has it.
        described: The property, to follow "is not": "a power of 2".
    """

    test: Callable[[Any], bool]
    described: str

    def __str__(self) -> str:
        """Returns the property, to follow the type in help."""
        return f", {self.described}"


@dataclass(frozen=True)
class Names:
    """The choices of an option whose values are names in a registry.

    Args:
        names: Returns them; called when help is printed and when a value is checked.
        former: Retired names, each with the one to take instead.
        other: Whether some other value is allowed too, such as a folder.
    """

    names: Callable[[], Iterable[str]]
    former: Mapping[str, str] = field(default_factory=dict, hash=False)
    other: Callable[[str], bool] = lambda value: False


@dataclass(frozen=True)
class Needs:
    """What another option must be for this one to have an effect.

    Args:
        option: The other option: an attribute of the same options, or of those in a group of them
            (`mix.indexing`).
        values: Its values with which this one has an effect; by default all but None, 0 and false.
        shown: What to give; default: the other option, with the first of the values.
    """

    option: str
    values: tuple[Any, ...] = ()
    shown: str | None = None


@dataclass(frozen=True)
class Excludes:
    """Another option that cannot be given together with this one.

    Args:
        option: The other option, an attribute of the same options.
        why: Why not, to follow both options.
    """

    option: str
    why: str = "cannot be combined"


Whole = Annotated[int, Range(ge=0)]
Count = Annotated[int, Range(ge=1)]
Rank = Annotated[int, Range(ge=1, le=LARGEST_RANK)]
Seed = Annotated[int, Range(ge=0, le=_LARGEST_INT64)]
NotNegative = Annotated[float, Range(ge=0)]
Positive = Annotated[float, Range(gt=0)]
Rate = Annotated[float, Range(ge=0, lt=1)]
Share = Annotated[float, Range(ge=0, le=1)]
PositiveShare = Annotated[float, Range(gt=0, le=1)]
Open = Annotated[float, Range(gt=0, lt=1)]
AnyText = Annotated[str, MAY_BE_EMPTY]
"""A text that may be empty; others may not."""


@functools.cache
def hints_of(owner: Any) -> Mapping[str, Any]:
    """Returns the types of a function's parameters, or of a dataclass's fields, with their marks.

    They are read once: the command line replaces annotations by plain types afterwards.
    """
    if not isinstance(owner, type):
        return _own_hints(owner)
    hints: dict[str, Any] = {}
    for base in reversed(owner.__mro__[:-1]):
        hints |= _own_hints(base)
    return hints


@functools.cache
def _own_hints(owner: Any) -> Mapping[str, Any]:
    hints = typing.get_type_hints(owner, include_extras=True)
    return {name: hints[name] for name in inspect.get_annotations(owner)}


def members(hint: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yields the members of a union, or the type itself, each without and with its marks."""
    marks: tuple[Any, ...] = ()
    while typing.get_origin(hint) is Annotated:
        marks, hint = (*hint.__metadata__, *marks), hint.__origin__
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        yield hint, marks
        return
    for part in typing.get_args(hint):
        for kind, own_marks in members(part):
            yield kind, (*own_marks, *marks)


def is_group(hint: Any) -> bool:
    """Whether a type is a dataclass of options, not a single value."""
    (kind, _), *others = members(hint)
    return not others and is_dataclass(kind)


def marks_of(hint: Any) -> tuple[Any, ...]:
    """Returns all marks on a type and on the members of a union."""
    return tuple(mark for _, marks in members(hint) for mark in marks)


def choices_of(hint: Any) -> tuple[str, ...]:
    """Returns the choices of a `Literal` or of `Names`, alone or in a union; empty without any."""
    for kind, marks in members(hint):
        for mark in marks:
            if isinstance(mark, Names) and kind is not type(None):
                return tuple(mark.names())
        if typing.get_origin(kind) is typing.Literal:
            return typing.get_args(kind)
    return ()
