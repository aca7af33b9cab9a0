"""Registries of what users choose by name, with one entry per file."""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import pkgutil
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from data_prep.errors import InputError
from data_prep.progress import note

T = TypeVar("T")
_OWN_PACKAGES = frozenset({"data_prep", "docids", "dsi"})
_REGISTRIES: weakref.WeakSet[Registry[Any]] = weakref.WeakSet()


class Registry(Generic[T]):
    """Maps names to classes or functions, with a helpful error for unknown names.

    Args:
        noun: What the entries are, in the singular ("docid kind"), for error messages.
        group: Entry point group by which installed packages add entries; each is imported when
            its name is first asked for. None for no such group.
        fault: Tells what is wrong with a name and the entry that a package adds under it; None if
            nothing is.
    """

    def __init__(
        self,
        noun: str,
        group: str | None = None,
        fault: Callable[[str, object], str | None] = lambda name, entry: None,
    ) -> None:
        self.noun = noun
        self.group = group
        self._fault = fault
        self._entries: dict[str, T] = {}
        _REGISTRIES.add(self)

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
            InputError: No entry has that name; the message lists those that exist. Or the package
                that adds it cannot be imported, or offers something else.
        """
        if name not in self._entries and name in self._offered:
            self._entries[name] = self._loaded(name)
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

    def usable(self) -> dict[str, T]:
        """Returns the entries by name, without those of packages that cannot be used."""
        entries = {}
        for name in self:
            with contextlib.suppress(InputError):
                entries[name] = self[name]
        return entries

    @functools.cached_property
    def _offered(self) -> Mapping[str, Sequence[EntryPoint]]:
        """The entry points of installed packages, by name; of ours, a package can offer none."""
        offered: dict[str, list[EntryPoint]] = {}
        for entry in [] if self.group is None else entry_points(group=self.group):
            known = offered.setdefault(entry.name, [])
            if entry.value not in (other.value for other in known):
                known.append(entry)
        for name in sorted(offered.keys() & self._entries.keys()):
            places = " and ".join(entry.value for entry in offered.pop(name))
            note(f"the {self.noun} {name!r} of {places} is ignored, because there is one already")
        return offered

    def _loaded(self, name: str) -> T:
        """Imports what a package offers under a name.

        Raises:
            InputError: It cannot be imported, is offered twice, or is something else.
        """
        entry, *more = self._offered[name]
        what = f"the {self.noun} {name!r} from {entry.value}"
        hint = "Reinstall the package that provides it, or uninstall it"
        if more:
            raise InputError(f"{what} is also offered by {more[0].value}", hint="Uninstall one")
        try:
            loaded = entry.load()
        except (Exception, SystemExit) as error:  # it is code of others, which may do anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"cannot import {what} ({reason:.300})", hint=hint) from None
        fault = self._fault(name, loaded)
        if fault is not None:
            raise InputError(f"cannot use {what}: {fault}", hint=hint)
        return cast(T, self._entries.get(name, loaded))  # it may have registered itself

    def from_elsewhere(self) -> dict[str, T]:
        """Returns the entries loaded so far that no package of the toolkit defines, by name."""
        return {
            name: entry
            for name, entry in self._entries.items()
            if _package(_module(entry)) not in _OWN_PACKAGES
        }


def foreign_entry(error: BaseException) -> str | None:
    """Describes the registered entry of another package whose code an error passed through.

    An entry's code is all code of the top-level package that defines its class or function.

    Args:
        error: An error that was caught; its traceback is read.

    Returns:
        The entry with its class or function and its module; None if only code of the toolkit and
        of libraries raised the error.
    """
    described: dict[str, str] = {}
    for registry in sorted(_REGISTRIES, key=lambda each: each.noun):
        for name, entry in registry.from_elsewhere().items():
            place = f"{_definition(entry).__name__} of module {_module(entry)}"
            described[_key(_definition(entry))] = f"the {registry.noun} {name!r} ({place})"
    passed: list[str] = []
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        first = frame.f_locals.get(next(iter(frame.f_code.co_varnames), ""))
        owner = _key(first if isinstance(first, type) else type(first))
        within = _package(frame.f_globals.get("__name__", ""))
        of_package = [key for key in described if _package(key) == within]
        if owner in of_package:  # a method of the entry
            return described[owner]
        passed += of_package
    return described[passed[0]] if passed else None


def _definition(entry: Any) -> Any:
    """Returns the class of an instance, and a class or function itself."""
    while isinstance(entry, functools.partial):
        entry = entry.func
    return entry if hasattr(entry, "__name__") else type(entry)


def _module(entry: object) -> str:
    return str(_definition(entry).__module__)


def _key(definition: Any) -> str:
    return f"{definition.__module__}.{definition.__qualname__}"


def _package(module: str) -> str:
    return module.partition(".")[0]


def import_entries(package: str, path: Iterable[str]) -> None:
    """Imports every module of a package, so that each registers what it defines.

    Args:
        package: The name of the package.
        path: Its `__path__`.
    """
    for module in pkgutil.iter_modules(path, f"{package}."):
        importlib.import_module(module.name)
