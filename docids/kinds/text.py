"""Shared code of the kinds whose identifiers are text: a phrase for each document, in pieces."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import numpy as np

from data_prep.checks import Options
from data_prep.errors import InputError
from data_prep.marks import Advanced, Count, Needs, Range
from data_prep.progress import track
from data_prep.text_processing import as_typed, normalize, one_line
from docids.kinds.base import Built, Documents, Kind
from docids.kinds.naming import Collisions, ExistingIdentifiers, Names
from docids.pieces import DIGITS, Pieces
from docids.ragged import Ragged
from docids.table import END, FIRST_CODE, DocidTable
from docids.term_weights import TermWeights

_DIGITS = tuple(-1 - digit for digit in range(DIGITS))
"""Stand for digits among pieces, until codes are written."""
_END = -1 - DIGITS
"""Stands for END."""


@dataclass(frozen=True)
class TextOptions(Options):
    """How phrases are written as codes, and what happens to documents with equal phrases."""

    max_tokens: Advanced[Annotated[int, Range(ge=2)]] = 20
    """Maximum codes per identifier, without END (SE-DSI: 20)"""
    tokens: Advanced[Literal["learned", "model"]] = "learned"
    """learned: the pieces of a vocabulary that is learned from the phrases; model: the tokens of
    the language model that --model.pretrained names, with its own embedding and output rows (SEAL,
    MINDER, Self-Retrieval)"""
    vocabulary: Advanced[Annotated[Count, Needs("tokens", ("learned",))]] = 8000
    """Maximum number of sentencepiece pieces"""
    identifiers: Advanced[Count] = 1
    """Identifiers per document; fewer if it has too few phrases"""
    language: Advanced[str] = "english"
    """Language of the stop words; none disables them"""
    collisions: Advanced[Collisions] = "extend"
    """extend: take the next-best phrase, then add a number; share: let documents share an
    identifier, and return all of them"""


class TextKind(Kind):
    """A kind whose identifiers are phrases.

    A subclass lists the candidate phrases of a document, best first. They are written in the pieces
    of a vocabulary that is learned from them, followed by END, so that documents whose phrases
    share a prefix have identifiers that share one.

    Args:
        name: The name of the kind.
    """

    Options: type[Any] = TextOptions
    form = "text"
    uses_new_codes = True

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def phrases(
        self, documents: Documents, options: Any, weights: TermWeights, seed: int
    ) -> Iterable[Sequence[str]]:
        """Yields the candidate phrases of each document, best first.

        Args:
            documents: The documents.
            options: An instance of `Options`.
            weights: Term weights from the original corpus.
            seed: Seed of everything random.
        """

    def build(self, documents: Documents, options: Any, seed: int) -> Built:
        """Learns the vocabulary, then names the documents in order.

        Raises:
            InputError: The tokens of a language model are asked for, and there is none.
        """
        if options.tokens == "model" and documents.model_tokens is None:
            raise InputError(
                f"--{self.name}.tokens model needs a language model, and none is given",
                hint="Assign these identifiers as part of dsi train --model.pretrained",
            )
        weights = TermWeights.fit(documents.texts, options.language)
        phrases = self._normalized(documents, options, weights, seed)
        pieces: Pieces | None = documents.model_tokens if options.tokens == "model" else None
        if pieces is None:
            strings = (phrase for several in phrases for phrase in several)
            pieces = Pieces.train(strings, options.vocabulary, seed)
        names = Names(options.collisions, _DIGITS, options.max_tokens)
        sequences, counts = _give(phrases, pieces, names, options)
        pieces, codes = _coded(sequences, pieces, FIRST_CODE + DIGITS)
        table = DocidTable.from_sequences(
            documents.doc_ids,
            codes,
            alphabet_size=FIRST_CODE + DIGITS + int((pieces.code >= 0).sum()),
            kind=self.name,
            options=asdict(options),
            counts=counts,
            shared=options.collisions == "share",
        )
        return Built(table, {**pieces.arrays(), **weights.arrays()}, names.resolved)

    def extend(self, built: Built, documents: Documents, seed: int) -> Built:
        """Names more documents; pieces used for the first time get new codes.

        Raises:
            InputError: The identifiers were saved without their vocabulary.
        """
        options = self.Options(**built.table.options)
        weights = TermWeights.of(built.extras, options.language)
        pieces = Pieces.of(built.extras)
        phrases = self._normalized(documents, options, weights, seed)
        given_before = _existing_identifiers(built.table, pieces)
        names = Names(options.collisions, _DIGITS, options.max_tokens, given_before)
        sequences, counts = _give(phrases, pieces, names, options)
        pieces, codes = _coded(sequences, pieces, built.table.next_code)
        table = built.table.append(documents.doc_ids, codes, counts)
        return Built(table, {**built.extras, **pieces.arrays()}, names.resolved)

    def _normalized(
        self, documents: Documents, options: Any, weights: TermWeights, seed: int
    ) -> list[list[str]]:
        phrases = self.phrases(documents, options, weights, seed)
        # A language model knows how words are capitalized.
        written = _as_written if options.tokens == "model" else normalize
        return [
            list(dict.fromkeys(written(phrase) for phrase in several))
            for several in track(phrases, f"{self.name} identifiers", len(documents))
        ]


def _as_written(phrase: str) -> str:
    return one_line(as_typed(phrase))


def _give(
    phrases: Sequence[Sequence[str]], pieces: Pieces, names: Names, options: TextOptions
) -> tuple[list[tuple[int, ...]], list[int]]:
    """Returns the identifiers of all documents in pieces, and the number for each document."""
    encoded = iter(
        pieces.encode([phrase for several in phrases for phrase in several], options.max_tokens)
    )
    sequences: list[tuple[int, ...]] = []
    counts = []
    for several in phrases:
        given = names.give(list(itertools.islice(encoded, len(several))), options.identifiers)
        sequences += given
        counts.append(len(given))
    return sequences, counts


def _coded(
    sequences: Sequence[tuple[int, ...]], pieces: Pieces, first: int
) -> tuple[Pieces, Ragged]:
    """Writes sequences of pieces and digits as codes that end in END.

    Args:
        sequences: The sequences.
        pieces: The vocabulary.
        first: The first free code, for pieces that have none yet.

    Returns:
        The vocabulary with their codes, and the identifiers.
    """
    packed = Ragged.pack([(*sequence, _END) for sequence in sequences])
    used = packed.codes[packed.codes >= 0]
    pieces = pieces.with_codes(used, first)
    codes = np.where(packed.codes >= 0, pieces.code[np.maximum(packed.codes, 0)], 0)
    digits = (packed.codes < 0) & (packed.codes != _END)
    codes[digits] = FIRST_CODE - 1 - packed.codes[digits]
    codes[packed.codes == _END] = END
    return pieces, Ragged(codes, packed.offsets)


def _existing_identifiers(table: DocidTable, pieces: Pieces) -> Callable[[tuple[int, ...]], bool]:
    """Returns the lookup for `Names`: whether a table has a sequence of pieces and digits."""
    before = ExistingIdentifiers(table)

    def exists(sequence: tuple[int, ...]) -> bool:
        codes = [FIRST_CODE - 1 - p if p < 0 else int(pieces.code[p]) for p in sequence]
        return min(codes, default=0) >= 0 and before((*codes, END))

    return exists
