"""Registries of what users choose by name, with one entry per file."""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from data_prep.errors import InputError

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps names to classes or functions, with a helpful error for unknown names.

    Args:
        noun: What the entries are, in the singular ("docid kind"), for error messages.
        group: Entry point group by which installed packages add entries; each is imported when
            its name is first asked for. None for no such group.
    """

    def __init__(self, noun: str, group: str | None = None) -> None:
        self.noun = noun
        self.group = group
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Returns a decorator that registers its argument under `name`."""

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
        if name not in self._entries and name in self._offered:
            self._load(name)
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=1)
            near_hint = f"Did you mean {near[0]!r}? " if near else ""
            raise InputError(
                f"unknown {self.noun} {name!r}", hint=f"{near_hint}Choose from: {', '.join(self)}"
            )
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._offered

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._entries, *self._offered}))

    def __len__(self) -> int:
        return len({*self._entries, *self._offered})

    @functools.cached_property
    def _offered(self) -> Mapping[str, EntryPoint]:
        """The entry points of installed packages, by name."""
        if self.group is None:
            return {}
        return {entry.name: entry for entry in entry_points(group=self.group)}

    def _load(self, name: str) -> None:
        """Imports what a package offers under a name, which may also register itself.

        Raises:
            InputError: It cannot be imported.
        """
        entry = self._offered[name]
        try:
            loaded = entry.load()
        except (ImportError, AttributeError) as error:
            raise InputError(
                f"cannot import the {self.noun} {name!r} from {entry.value} ({error})",
                hint="Reinstall the package that provides it, or uninstall it",
            ) from None
        self._entries.setdefault(name, loaded)


def import_entries(package: str, path: Iterable[str]) -> None:
    """Imports every module of a package, so that each registers what it defines.

    Args:
        package: The name of the package.
        path: Its `__path__`.
    """
    for module in pkgutil.iter_modules(path, f"{package}."):
        importlib.import_module(module.name)
