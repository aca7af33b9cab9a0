"""The options of every kind side by side, as commands and training runs take them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypeVar

from data_prep.checks import Options, refuse_unread
from data_prep.errors import InputError
from data_prep.marks import ADVANCED, Advanced, Whole
from docids.kinds import KINDS, NoOptions, kinds_where
from docids.kinds.naming import Collisions

T = TypeVar("T")


def _group_of(kind: str) -> str:
    """Returns the prefix of a kind's options: the name before the dot."""
    return (KINDS[kind].options_of or kind).replace("-", "_")


def _readers(group: str) -> list[str]:
    """Returns the kinds that read a group of options, starting with the kind it is named after."""
    readers = kinds_where(lambda kind: kind.Options is _GROUPS[group])
    readers = [kind for kind in readers if _group_of(kind) == group]
    return sorted(readers, key=lambda kind: kind.replace("-", "_") != group)


_HIDDEN = {"collisions", "reserve"}
"""Names that a kind of another package cannot have: a command has an option of that name."""
_GROUPS = {
    group: KINDS[name].Options
    for name in kinds_where(lambda kind: kind.Options is not NoOptions and not kind.options_of)
    if (group := _group_of(name)) not in _HIDDEN
}
"""Options that a group has -> their class; of kinds that are registered by now."""


def _with_groups(owner: type[T]) -> type[T]:
    """Adds a field for each kind that has options to a class that becomes a dataclass."""
    lines = []
    for group, options in _GROUPS.items():
        setattr(owner, group, field(default_factory=options))
        readers = _readers(group)
        lines.append(f"    {group}: Identifier kind{'s' * (len(readers) > 1)} ")
        lines[-1] += f"{' and '.join(readers)}."
    types = {group: Annotated[options, ADVANCED] for group, options in _GROUPS.items()}
    owner.__annotations__ = {**types, **owner.__annotations__}
    heading = "Attributes:\n"
    doc = inspect.cleandoc(owner.__doc__ or "")  # Python 3.13 and later have done so already
    owner.__doc__ = doc.replace(heading, heading + "\n".join(lines) + "\n")
    return owner


@dataclass(frozen=True)
@_with_groups
class KindOptions(Options):
    """One group of options for each kind that has any, under the name of the kind.

    The kinds are those registered when this module is imported. Groups of kinds that are not chosen
    are present too, so that one object serves every kind; a command refuses values for them
    (`refuse_unused`).

    Attributes:
        collisions: What to do if two documents get the same identifier: extend it, or share it.
            Shorthand for the option of the chosen kind.
        reserve: Codes reserved for future documents. Until an update needs more, the shapes of all
            weights stay the same.
    """

    collisions: Advanced[Collisions | None] = None
    reserve: Advanced[Whole] = 0

    def __init_subclass__(cls, group: str | None = None, switch: str | None = None) -> None:
        """Leaves out kinds that have the name of an option of the command.

        One of another package has no options, and cannot be chosen.
        """
        for reserved in _GROUPS.keys() & cls.__annotations__.keys():
            del _GROUPS[reserved]
            _HIDDEN.add(reserved)
        super().__init_subclass__(group, switch)

    def of_kind(self, kind: str) -> Any:
        """Returns the options of a kind, an instance of its `Options`.

        Raises:
            InputError: There is no such kind, `collisions` is given for a kind whose identifiers
                cannot collide, or `reserve` for one whose new documents need no new codes.
        """
        needed = KINDS[kind].Options
        group = _group_of(kind)
        if group in _HIDDEN:
            raise InputError(
                f"a docid kind called {kind!r} cannot be used, because there is an option --{kind}",
                hint="Rename it in the package that provides it",
            )
        options = getattr(self, group) if group in _GROUPS else needed()
        self._check_reserve(kind, options)
        if self.collisions is None:
            return options
        if not hasattr(options, "collisions"):
            raise InputError(
                f"--collisions {self.collisions} has no effect with the kind {kind!r}, whose "
                "identifiers are always unique",
                hint="Omit it",
            )
        return replace(options, collisions=self.collisions)

    def _check_reserve(self, kind: str, options: Any) -> None:
        """Refuses a reserve that no new document would use."""
        shared = "share" in (self.collisions, getattr(options, "collisions", None))
        several_codes = KINDS[kind].form == "codes"
        if self.reserve and not KINDS[kind].uses_new_codes:
            fitting = kinds_where(lambda known: known.uses_new_codes)
            raise InputError(
                f"--reserve {self.reserve} has no effect with the kind {kind!r}, whose new "
                "documents need no new codes",
                hint=f"Omit it, or choose from: {', '.join(fitting)}",
            )
        if self.reserve and shared and several_codes:
            raise InputError(
                f"--reserve {self.reserve} has no effect if documents share identifiers: new "
                "documents need no new codes",
                hint="Omit one of --reserve and --collisions share",
            )

    def refuse_unused(self, kind: str | None, chosen: str) -> None:
        """Refuses options of kinds other than the chosen one.

        Args:
            kind: The kind; None if the identifiers exist already, so that no options apply.
            chosen: The command-line words that chose it, such as `--kind rq`.

        Raises:
            InputError: A group that is not read has a value other than its default.
        """
        read = set() if kind is None else {_group_of(kind)}
        for group in sorted(_GROUPS.keys() - read):
            about = " or ".join(_readers(group))
            hint = f"Omit it: it applies to the kind {about}"
            refuse_unread(self, [group], f"with {chosen}", hint=hint)
        if kind is None:
            refuse_unread(self, ["collisions", "reserve"], f"with {chosen}")
