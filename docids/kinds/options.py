"""The options of every kind side by side, as a command or a training run is given them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from data_prep.errors import InputError
from data_prep.marks import Advanced
from docids.kinds.base import KINDS
from docids.kinds.description import DescriptionOptions
from docids.kinds.keywords import KeywordOptions
from docids.kinds.learned import LearnedOptions
from docids.kinds.naming import Collisions
from docids.kinds.quantization import QuantizationOptions
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
        semantic: Identifier kinds semantic and random.
        description: Identifier kind description.
        title: Identifier kind title.
        url: Identifier kind url.
        keywords: Identifier kind keywords.
        rq: Identifier kind rq.
        pq: Identifier kind pq.
        learned: Identifier kind learned.
        collisions: What to do if two documents get the same identifier: extend it, or share it.
            Shorthand for the option of the chosen kind.
    """

    semantic: Advanced[TreeOptions] = field(default_factory=TreeOptions)
    description: Advanced[DescriptionOptions] = field(default_factory=DescriptionOptions)
    title: Advanced[TextOptions] = field(default_factory=TextOptions)
    url: Advanced[UrlOptions] = field(default_factory=UrlOptions)
    keywords: Advanced[KeywordOptions] = field(default_factory=KeywordOptions)
    rq: Advanced[QuantizationOptions] = field(default_factory=QuantizationOptions)
    pq: Advanced[QuantizationOptions] = field(default_factory=QuantizationOptions)
    learned: Advanced[LearnedOptions] = field(default_factory=LearnedOptions)
    collisions: Advanced[Collisions | None] = None

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
