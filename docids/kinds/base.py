"""The interface of a docid kind, with its input and output."""

from __future__ import annotations

import dataclasses
import functools
import keyword
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from data_prep.checks import Options, with_article
from data_prep.dataset import Document
from data_prep.registry import Registry
from docids.table import DocidTable

if TYPE_CHECKING:
    from docids.code_learning.checkpoint import Checkpoint
    from docids.model_tokens import ModelTokens


@dataclass(frozen=True)
class Documents:
    """The documents that need identifiers.

    Attributes:
        doc_ids: Their ids.
        texts: Their texts, title first.
        embed: Turns texts into vectors, float32 [texts, dimensions]; called only by a kind that
            uses vectors, first for the texts of the documents, to which it may be fitted.
        given_titles: Their titles; None if unknown.
        queries: Maps the name of a generator, or "auto", to the pseudo-queries of each document;
            None if there are none.
        scratch: Where a kind may keep work in progress, so that it can resume after an
            interruption; None to keep nothing.
        given_urls: Their URLs, "" if a document has none; None if they are unknown.
        model_tokens: The vocabulary of the language model that will be trained; None if there is
            none.
    """

    doc_ids: Sequence[str]
    texts: Sequence[str]
    embed: Callable[[Sequence[str]], npt.NDArray[np.float32]]
    given_titles: Sequence[str] | None = None
    queries: Callable[[str], Sequence[Sequence[str]]] | None = None
    given_urls: Sequence[str] | None = None
    scratch: Path | None = None
    model_tokens: ModelTokens | None = None

    @classmethod
    def of(
        cls,
        documents: Sequence[Document],
        embed: Callable[[Sequence[str]], npt.NDArray[np.float32]],
        queries: Callable[[str], Sequence[Sequence[str]]] | None = None,
    ) -> Documents:
        """Returns the documents of a dataset as kinds read them; see the attributes."""
        return cls(
            [document.doc_id for document in documents],
            [document.title_and_text for document in documents],
            embed,
            [document.title for document in documents],
            queries,
            [document.url for document in documents],
        )

    def __len__(self) -> int:
        return len(self.doc_ids)

    @property
    def titles(self) -> Sequence[str]:
        """The title of each document; if unknown, the first line of a text of several lines."""
        if self.given_titles is not None:
            return self.given_titles
        parts = (text.partition("\n") for text in self.texts)
        return [first if rest else "" for first, _, rest in parts]

    @property
    def urls(self) -> Sequence[str]:
        """The URL of each document, "" if it has none."""
        return [""] * len(self) if self.given_urls is None else self.given_urls

    def ask(self, generator: str) -> Sequence[Sequence[str]]:
        """Returns the pseudo-queries of each document; empty lists if there are none.

        Args:
            generator: The name of their generator, or "auto".
        """
        return [()] * len(self) if self.queries is None else self.queries(generator)

    @functools.cached_property
    def vectors(self) -> npt.NDArray[np.float32]:
        """One vector of norm 1 (or 0) for each document; float32 [documents, dimensions]."""
        return self.embed(self.texts)


@dataclass(frozen=True)
class Built:
    """Identifiers, and the arrays that their kind needs to assign more of them.

    Attributes:
        table: The identifiers.
        extras: Name -> array; stored next to the table.
        resolved: How documents whose first choice was taken were handled -> how many documents;
            covers the last call only, not stored.
        model: The encoder-decoder the codes were trained with, or its folder; None for kinds that
            train none.
        notes: What was chosen on the user's behalf; set by `build` only, not stored.
        codebooks: How many codes the first positions can take, used or not; set by `build` only,
            not stored. Empty where only codes in use exist.
    """

    table: DocidTable
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    resolved: Mapping[str, int] = field(default_factory=dict)
    model: Checkpoint | Path | None = None
    notes: Sequence[str] = ()
    codebooks: Sequence[int] = ()


@dataclass(frozen=True)
class NoOptions(Options):
    """Options of a kind that has none."""


class Kind(ABC):
    """A way to assign identifiers, and what the rest of the toolkit needs to know about it.

    Instances are stateless: they keep nothing about documents.

    Attributes:
        Options: A frozen dataclass of the user's options, each field followed by its help.
        options_of: The kind whose command-line options this one reads; None for its own,
            `--NAME.*`.
        form: What an identifier is. "atomic": one code that no other document has; "codes": a
            sequence of codes of one alphabet; "text": a phrase in sentencepiece pieces.
        uses_vectors: Whether `build` reads document vectors.
        uses_content: Whether identifiers say what documents are about.
        uses_new_codes: Whether new documents may need codes that no document has had, so that a
            reserve makes sense.
        extends_by_queries: Whether `extend` reads the pseudo-queries of new documents, from the
            generator that the option `generator` names.
    """

    Options: type[Any] = NoOptions
    options_of: str | None = None
    form: Literal["atomic", "codes", "text"] = "codes"
    uses_vectors: bool = False
    uses_content: bool = True
    uses_new_codes: bool = False
    extends_by_queries: bool = False

    @abstractmethod
    def build(self, documents: Documents, options: Any, seed: int) -> Built:
        """Assigns an identifier to every document of a corpus.

        Args:
            documents: The corpus.
            options: An instance of `Options`.
            seed: The same documents, options and seed give the same identifiers.
        """

    @abstractmethod
    def extend(self, built: Built, documents: Documents, seed: int) -> Built:
        """Assigns identifiers to new documents; existing identifiers do not change.

        The identifier of a retired row is never reused, unless documents may share identifiers.

        Args:
            built: What `build` or `extend` returned.
            documents: The new documents.
            seed: Seed of everything random.
        """

    def expected_alphabet(self, options: Any, documents: int | None) -> int | None:
        """Estimates the number of codes, for an estimate of memory.

        Args:
            options: An instance of `Options`.
            documents: How many documents; None if that is unknown.

        Returns:
            The size, including special codes; None if it depends on the number of documents and
            that is unknown. By default 4,096.
        """
        return 4096

    def encoder_decoder(self, options: Any) -> str | None:
        """Returns the encoder-decoder that is trained with the codes; by default there is none.

        Args:
            options: An instance of `Options`.
        """
        return None


def _fault(name: str, entry: object) -> str | None:
    """Tells what is wrong with a kind of another package: its options become command-line ones."""
    if not isinstance(entry, Kind):
        return f"it is {with_article(entry)}, not an instance of docids.kinds.Kind"
    group = (entry.options_of or name).replace("-", "_")
    if not group.isidentifier() or keyword.iskeyword(group):
        return "its name must consist of letters, digits and hyphens, and start with a letter"
    if entry.form not in ("atomic", "codes", "text"):
        return f"its form is {entry.form!r}, not 'atomic', 'codes' or 'text'"
    options = entry.Options
    if not (isinstance(options, type) and dataclasses.is_dataclass(options)):
        return "its Options is not a dataclass"
    try:
        options()
    except Exception as error:
        return f"its Options has no valid defaults ({error})"
    return None


KINDS: Registry[Kind] = Registry("docid kind", group="dsi.identifier_kinds", fault=_fault)


def kinds_where(fit: Callable[[Kind], bool]) -> list[str]:
    """Returns the names of the kinds that fit; kinds whose package cannot be used do not.

    Args:
        fit: Predicate on a kind.
    """
    return [name for name, kind in KINDS.usable().items() if fit(kind)]
