"""The generator interface, the common options, and the registry."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from data_prep.checks import Options
from data_prep.dataset import Dataset, Document
from data_prep.marks import Advanced, Count, Seed
from data_prep.registry import Registry


@dataclass(frozen=True)
class GeneratorOptions(Options):
    """Options common to all generators."""

    per_doc: Advanced[Count] = 20
    """Pseudo-queries per document; a short document may have fewer distinct ones"""
    seed: Advanced[Seed] = 0
    """Random seed"""


class PseudoQuery(NamedTuple):
    """A pseudo-query, and the method of its generator ("" if there is only one)."""

    text: str
    how: str = ""


class Generator(ABC):
    """Generates pseudo-queries for one document after another.

    The queries of a document depend only on the document, the options and statistics of the whole
    Dataset, not on the order of documents or on the process.

    Args:
        dataset: The Dataset whose statistics the generator may use.
        options: An instance of the class attribute `options_class`.
    """

    options_class: ClassVar[type[GeneratorOptions]]
    version: ClassVar[int] = 1
    """Incremented whenever the same options give different queries than before."""
    shard_documents: ClassVar[int | None] = None
    """Documents per shard, the most that a kill can lose; None: that of `data_prep.generate`."""
    expensive: ClassVar[bool] = False
    """Whether its queries are so expensive that `dsi train` does not generate them by itself."""

    @abstractmethod
    def __init__(self, dataset: Dataset, options: GeneratorOptions) -> None: ...

    @abstractmethod
    def generate(self, document: Document) -> list[str]:
        """Returns at most `per_doc` different pseudo-queries of the document."""

    def generate_batch(self, documents: Sequence[Document]) -> list[list[PseudoQuery]]:
        """Returns the pseudo-queries of several documents, which models process as a batch."""
        return [list(map(PseudoQuery, self.generate(document))) for document in documents]

    @classmethod
    def identity(cls, dataset: Dataset, options: GeneratorOptions) -> dict[str, Any]:
        """Returns what determines the queries besides options and Dataset, such as a model's hash.

        It is part of the provenance: if it changes, the queries are regenerated.
        """
        return {}


GENERATORS: Registry[type[Generator]] = Registry("generator")


def rng_of(document: Document, seed: int) -> np.random.Generator:
    """Returns the random generator of one document: seeded by `seed` and the document's id."""
    digest = hashlib.blake2b(document.doc_id.encode(), digest_size=8).digest()
    return np.random.default_rng([seed, int.from_bytes(digest, "big")])


def distinct(texts: Iterable[str], most: int) -> list[str]:
    """Returns the first `most` distinct non-empty texts, in order."""
    unique = dict.fromkeys(text for text in texts if text)
    return list(unique)[:most]


class ModelGenerator(Generator):
    """Generates for several documents at once (`generate_batch`), and only on request."""

    shard_documents = 64
    expensive = True

    def generate(self, document: Document) -> list[str]:
        """Returns the pseudo-queries of one document."""
        return [query.text for query in self.generate_batch([document])[0]]
