"""What every generator is: the interface, the common options, the registry."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from data_prep.dataset import Dataset, Document
from data_prep.errors import InputError
from data_prep.marks import Advanced
from data_prep.registry import Registry


@dataclass(frozen=True)
class GeneratorOptions:
    """What every generator is told."""

    per_doc: Advanced[int] = 20
    """Pseudo-queries per document; a short document may have fewer distinct ones"""
    seed: Advanced[int] = 0
    """Random seed"""

    def __post_init__(self) -> None:
        if self.per_doc < 1:
            raise InputError(f"--per-doc {self.per_doc} is less than one query a document")
        if self.seed < 0:
            raise InputError(f"--seed {self.seed} is negative")


class PseudoQuery(NamedTuple):
    """A pseudo-query, and how its generator came to it ("" where there is one way only)."""

    text: str
    how: str = ""


class Generator(ABC):
    """Writes pseudo-queries of one document after another.

    The queries of a document depend on the document, the options and statistics of the whole
    Dataset only: not on the order in which documents come, nor on the process that asks.

    Args:
        dataset: The Dataset whose statistics the generator may use.
        options: An instance of the class attribute `options_class`.
    """

    options_class: ClassVar[type[GeneratorOptions]]
    version: ClassVar[int] = 1
    """Raised whenever the same options give other queries than before."""
    shard_documents: ClassVar[int | None] = None
    """Documents per shard: what a kill can cost; None for that of `data_prep.generate`."""
    expensive: ClassVar[bool] = False
    """Whether its queries cost so much that `dsi train` makes none by itself."""

    @abstractmethod
    def __init__(self, dataset: Dataset, options: GeneratorOptions) -> None: ...

    @abstractmethod
    def generate(self, document: Document) -> list[str]:
        """Returns at most `per_doc` different pseudo-queries of the document."""

    def generate_batch(self, documents: Sequence[Document]) -> list[list[PseudoQuery]]:
        """Returns the pseudo-queries of several documents; models work on them together."""
        return [list(map(PseudoQuery, self.generate(document))) for document in documents]

    @classmethod
    def identity(cls, dataset: Dataset, options: GeneratorOptions) -> dict[str, Any]:
        """Returns what decides the queries besides options and Dataset, such as a model's hash.

        It is part of the provenance: where it changes, the queries are made anew.
        """
        return {}


GENERATORS: Registry[type[Generator]] = Registry("generator")


def rng_of(document: Document, seed: int) -> np.random.Generator:
    """Returns the random generator of one document: seeded by `seed` and the document's id."""
    digest = hashlib.blake2b(document.doc_id.encode(), digest_size=8).digest()
    return np.random.default_rng([seed, int.from_bytes(digest, "big")])


def distinct(texts: Iterable[str], most: int) -> list[str]:
    """Returns the first `most` different non-empty texts, in order."""
    found = dict.fromkeys(text for text in texts if text)
    return list(found)[:most]
