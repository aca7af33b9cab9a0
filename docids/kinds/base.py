"""What a docid kind is given, what it gives back, and the interface of a kind."""

from __future__ import annotations

import contextlib
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from data_prep.registry import Registry
from docids.table import DocidTable

if TYPE_CHECKING:
    from docids.code_learning.checkpoint import Checkpoint


@dataclass(frozen=True)
class Documents:
    """The documents that need identifiers.

    Attributes:
        doc_ids: Their ids.
        texts: What they say, title first.
        embed: Turns texts into vectors, float32 [texts, dimensions]; called only by a kind
            that looks at vectors, first for the texts of the documents, from which it may learn.
        given_titles: Their titles; None where they are unknown.
        queries: Gives the pseudo-queries of each document by the name of their generator, or by
            "auto"; None where there are none.
        scratch: Where a kind may keep what it has under way, so that it continues after an
            interruption; None for nowhere.
        given_urls: Their URLs, "" where a document has none; None where they are unknown.
    """

    doc_ids: Sequence[str]
    texts: Sequence[str]
    embed: Callable[[Sequence[str]], npt.NDArray[np.float32]]
    given_titles: Sequence[str] | None = None
    queries: Callable[[str], Sequence[Sequence[str]]] | None = None
    given_urls: Sequence[str] | None = None
    scratch: Path | None = None

    def __len__(self) -> int:
        return len(self.doc_ids)

    @property
    def titles(self) -> Sequence[str]:
        """One title for each document; where they are unknown, the first of several lines."""
        if self.given_titles is not None:
            return self.given_titles
        parts = (text.partition("\n") for text in self.texts)
        return [first if rest else "" for first, _, rest in parts]

    @property
    def urls(self) -> Sequence[str]:
        """One URL for each document, "" where it has none."""
        return [""] * len(self) if self.given_urls is None else self.given_urls

    def ask(self, generator: str) -> Sequence[Sequence[str]]:
        """Returns the pseudo-queries of each document; none where there are none.

        Args:
            generator: Who wrote them, or "auto".
        """
        return [()] * len(self) if self.queries is None else self.queries(generator)

    @functools.cached_property
    def vectors(self) -> npt.NDArray[np.float32]:
        """One vector of length 1 (or 0) for each document; float32 [documents, dimensions]."""
        return self.embed(self.texts)


@dataclass(frozen=True)
class Built:
    """Identifiers, and the arrays that their kind needs to give out more of them.

    Attributes:
        table: The identifiers.
        extras: Name -> array; stored beside the table.
        resolved: What was done where the first choice for a document was taken -> how many
            documents; of the last call only, and not stored.
        model: The encoder-decoder that codes were trained with, or the folder where it is kept;
            None for the kinds that train none.
        notes: What was chosen for the user; of `build` only, and not stored.
    """

    table: DocidTable
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    resolved: Mapping[str, int] = field(default_factory=dict)
    model: Checkpoint | Path | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class NoOptions:
    """The options of a kind that has none."""


class Kind(ABC):
    """A way to give documents identifiers, and what the rest of the toolkit has to know of it.

    An instance keeps nothing about documents.

    Attributes:
        Options: A frozen dataclass of what the user can set, each field with its help below it.
        options_of: The kind whose options on the command line this one reads; None for its own,
            `--NAME.*`.
        form: What an identifier is. "atomic": one code that no other document has; "codes": a
            sequence of codes of one alphabet; "text": a phrase in sentencepiece pieces.
        uses_vectors: Whether `build` reads document vectors.
        uses_content: Whether identifiers say what documents are about.
        extends_by_queries: Whether `extend` reads the pseudo-queries of new documents, of the
            generator that the option `generator` names.
    """

    Options: type[Any] = NoOptions
    options_of: str | None = None
    form: Literal["atomic", "codes", "text"] = "codes"
    uses_vectors: bool = False
    uses_content: bool = True
    extends_by_queries: bool = False

    @abstractmethod
    def build(self, documents: Documents, options: Any, seed: int) -> Built:
        """Gives every document of a corpus an identifier.

        Args:
            documents: The corpus.
            options: An instance of `Options`.
            seed: Same documents, options and seed give the same identifiers.
        """

    @abstractmethod
    def extend(self, built: Built, documents: Documents, seed: int) -> Built:
        """Gives new documents identifiers; those given before stay as they are.

        An identifier of a retired row is never given again, unless documents may share them.

        Args:
            built: What `build` or `extend` returned.
            documents: The new documents.
            seed: Of whatever is drawn at random.
        """

    def expected_alphabet(self, options: Any, documents: int | None) -> int | None:
        """Returns about how many codes there will be, for an estimate of memory.

        Args:
            options: An instance of `Options`.
            documents: How many documents; None where that is unknown.

        Returns:
            The size, special codes included; None where the number of documents decides it and
            is unknown. By default 4,096.
        """
        return 4096

    def encoder_decoder(self, options: Any) -> str | None:
        """Returns the encoder-decoder that is trained with the codes; by default there is none.

        Args:
            options: An instance of `Options`.
        """
        return None


KINDS: Registry[Kind] = Registry("docid kind", group="dsi.identifier_kinds")


def kinds_that(fit: Callable[[Kind], bool]) -> list[str]:
    """Returns the names of the kinds that fit; one whose package cannot be imported does not.

    Args:
        fit: Tells whether a kind does.
    """
    names = []
    for name in KINDS:
        with contextlib.suppress(InputError):
            names += [name] if fit(KINDS[name]) else []
    return names
