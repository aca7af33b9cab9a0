"""Registries of what users choose by name, with one entry per file."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from data_prep.errors import InputError

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps names to classes or functions, with a helpful error for unknown names.

    Args:
        noun: What the entries are, in the singular ("docid kind"), for error messages.
    """

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Returns a decorator that enters its argument under `name`."""

        def enter(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"two entries called {name!r} among the {self.noun}s")
            self._entries[name] = entry
            return entry

        return enter

    def __getitem__(self, name: str) -> T:
        """Returns the entry called `name`.

        Raises:
            InputError: No entry has that name; the message lists those that exist.
        """
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=1)
            near_hint = f"Did you mean {near[0]!r}? " if near else ""
            raise InputError(
                f"unknown {self.noun} {name!r}", hint=f"{near_hint}Choose from: {', '.join(self)}"
            )
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)


def import_entries(package: str, path: Iterable[str]) -> None:
    """Imports every module of a package, so that each registers what it defines.

    Args:
        package: The name of the package.
        path: Its `__path__`.
    """
    for module in pkgutil.iter_modules(path, f"{package}."):
        importlib.import_module(module.name)
