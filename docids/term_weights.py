"""BM25 weights of a document's terms, against the original corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.errors import InputError
from data_prep.generators.document_terms import split_terms
from data_prep.text_processing import stopwords
from docids.strings import Strings

_K1, _B = 1.5, 0.75


@dataclass(frozen=True)
class TermWeights:
    """Document frequencies of a corpus; an unknown term counts as occurring in one document.

    Attributes:
        frequency: Lower-case term -> number of documents that have it, if more than one.
        documents: How many documents there were.
        length: Mean number of terms in a document.
        language: Language of the stop words to leave out; "none" for none.
    """

    frequency: Mapping[str, int]
    documents: int
    length: float
    language: str

    @classmethod
    def fit(cls, texts: Sequence[str], language: str = "english") -> TermWeights:
        """Counts the terms of a corpus."""
        left_out = stopwords(language)
        counts: Counter[str] = Counter()
        total = 0
        for text in texts:
            keys = [key for key in split_terms(text).keys if key not in left_out]
            total += len(keys)
            counts.update(set(keys))
        frequency = {term: count for term, count in counts.items() if count > 1}
        return cls(frequency, len(texts), total / max(len(texts), 1), language)

    def ranked(self, text: str, most: int) -> list[str]:
        """Returns the terms of a text by BM25 weight, in descending order.

        Args:
            text: The text.
            most: Maximum number of terms; ties are broken by first occurrence.
        """
        left_out = stopwords(self.language)
        counts = Counter(key for key in split_terms(text).keys if key not in left_out)
        norm = _K1 * (1 - _B + _B * sum(counts.values()) / max(self.length, 1.0))

        def weight(term: str) -> float:
            df = self.frequency.get(term, 1)
            idf = np.log1p((self.documents - df + 0.5) / (df + 0.5))
            return float(idf * counts[term] / (counts[term] + norm))

        return sorted(counts, key=lambda term: -weight(term))[:most]

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the counts as extras of `Built`."""
        terms = sorted(self.frequency)
        packed = Strings.pack(terms)
        return {
            "term_text": packed.text,
            "term_offsets": packed.offsets,
            "term_frequency": np.array([self.frequency[term] for term in terms], np.int64),
            "term_corpus": np.array([self.documents, self.length], np.float64),
        }

    @classmethod
    def of(cls, extras: Mapping[str, np.ndarray], language: str) -> TermWeights:
        """Restores the weights from `arrays`.

        Raises:
            InputError: The extras hold none.
        """
        try:
            terms = Strings(extras["term_text"], extras["term_offsets"])
            frequency = dict(zip(terms, extras["term_frequency"].tolist(), strict=True))
            documents, length = extras["term_corpus"].tolist()
        except KeyError as error:
            raise InputError(
                f"the stored identifiers have no term weights ({error.args[0]!r} is missing)",
                hint="Assign them again",
            ) from None
        return cls(frequency, int(documents), length, language)
