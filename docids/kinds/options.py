"""The options of every kind side by side, as a command or a training run is given them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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

    The groups of kinds that are not chosen stand by, so that one file can serve all of them.

    Attributes:
        semantic: Of semantic, and of random, which has its shape.
        description: Of description.
        title: Of title.
        url: Of url.
        keywords: Of keywords.
        rq: Of rq.
        pq: Of pq.
        learned: Of learned.
        collisions: Overrides the option of the same name of the kind; None leaves it.
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
                mend="Leave it out",
            )
        return replace(options, collisions=self.collisions)
