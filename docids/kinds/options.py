"""The options of every kind side by side, as a command or a training run is given them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from data_prep.errors import InputError
from docids.kinds.base import KINDS
from docids.kinds.description import DescriptionOptions
from docids.kinds.keywords import KeywordOptions
from docids.kinds.learned import LearnedOptions
from docids.kinds.naming import Collisions
from docids.kinds.quantisation import QuantisationOptions
from docids.kinds.text import TextOptions
from docids.kinds.tree import TreeOptions
from docids.kinds.url import UrlOptions

_GROUP_OF = {"random": "semantic"}


@dataclass(frozen=True)
class KindOptions:
    """One group of options for each kind that has any, under the name of the kind.

    The groups of kinds that are not chosen stand by, so that one object can serve all of them; a
    command refuses them (`refuse_unused`).

    Attributes:
        semantic: Options of the identifier kinds semantic and random.
        description: Options of the identifier kind description.
        title: Options of the identifier kind title.
        url: Options of the identifier kind url.
        keywords: Options of the identifier kind keywords.
        rq: Options of the identifier kind rq.
        pq: Options of the identifier kind pq.
        learned: Options of the identifier kind learned.
        collisions: Where two documents come to have the same identifier: share lets them, and
            extend tells them apart; short for the option of the same name of the chosen kind.
    """

    semantic: TreeOptions = field(default_factory=TreeOptions)
    description: DescriptionOptions = field(default_factory=DescriptionOptions)
    title: TextOptions = field(default_factory=TextOptions)
    url: UrlOptions = field(default_factory=UrlOptions)
    keywords: KeywordOptions = field(default_factory=KeywordOptions)
    rq: QuantisationOptions = field(default_factory=QuantisationOptions)
    pq: QuantisationOptions = field(default_factory=QuantisationOptions)
    learned: LearnedOptions = field(default_factory=LearnedOptions)
    collisions: Collisions | None = None

    def of_kind(self, kind: str) -> Any:
        """Returns the options of a kind, an instance of its `Options`.

        Raises:
            InputError: There is no such kind, or `collisions` is given for a kind whose
                identifiers cannot collide.
        """
        needed = KINDS[kind].Options
        group = _GROUP_OF.get(kind, kind)
        options = getattr(self, group, None) or needed()
        if self.collisions is None:
            return options
        if not hasattr(options, "collisions"):
            raise InputError(
                f"--collisions {self.collisions} does not fit the kind {kind!r}, whose identifiers "
                "are unique as they are made",
                hint="Leave it out",
            )
        return replace(options, collisions=self.collisions)

    def refuse_unused(self, kind: str | None, chosen: str) -> None:
        """Refuses options of kinds other than the chosen one.

        Args:
            kind: The kind; None where identifiers exist already, and no options make them.
            chosen: The words that chose it, such as `--kind rq`.

        Raises:
            InputError: A group that is not read has another value than its default.
        """
        read = None if kind is None else _GROUP_OF.get(kind, kind)
        default = KindOptions()
        for entry in fields(KindOptions):
            if entry.name == read or getattr(self, entry.name) == getattr(default, entry.name):
                continue
            if entry.name != "collisions":
                readers = [
                    entry.name,
                    *(name for name, of in _GROUP_OF.items() if of == entry.name),
                ]
                raise InputError(
                    f"--{entry.name}.* changes nothing with {chosen}",
                    hint=f"Leave it out: it is about the kind {' or '.join(readers)}",
                )
            if kind is None:
                raise InputError(f"--collisions changes nothing with {chosen}", hint="Leave it out")
