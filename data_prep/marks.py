"""Marks on the type of an option: whether it is on the first page of help, and its choices.

The type of a dataclass field, or of a parameter of a command, carries them:

    beta2: Advanced[float] = 0.99
    generator: GeneratorName = "auto"

where `GeneratorName = Annotated[str, Names(lambda: GENERATORS)]` stands in the module.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

T = TypeVar("T")
ADVANCED = "advanced"
Advanced = Annotated[T, ADVANCED]
"""An option, or a group of options, that only `--help-all` shows."""


@dataclass(frozen=True)
class Names:
    """The choices of an option whose values are names in a registry.

    Args:
        names: Returns them; called when help is printed.
    """

    names: Callable[[], Iterable[str]]


def marks_of(owner: Any) -> Mapping[str, tuple[Any, ...]]:
    """Returns the marks on each annotated name of a dataclass, inherited ones too, or function.

    They are read once: the command line replaces annotations by plain types afterwards.
    """
    if not isinstance(owner, type):
        return _own_marks(owner)
    found: dict[str, tuple[Any, ...]] = {}
    for base in reversed(owner.__mro__[:-1]):
        found |= _own_marks(base)
    return found


@functools.cache
def _own_marks(owner: Any) -> Mapping[str, tuple[Any, ...]]:
    hints = typing.get_type_hints(owner, include_extras=True)
    own = inspect.get_annotations(owner)
    return {name: getattr(hints[name], "__metadata__", ()) for name in own}


def literals(hint: Any) -> tuple[str, ...]:
    """Returns the choices of a `Literal`, alone or in a union; empty for other types."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    return tuple(
        choice
        for part in typing.get_args(hint)
        if typing.get_origin(part) is typing.Literal
        for choice in typing.get_args(part)
    )
