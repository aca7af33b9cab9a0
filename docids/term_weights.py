"""What the words of a document weigh: BM25 against the corpus that was there first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.errors import InputError
from data_prep.generators.terms import in_terms
from data_prep.text import stopwords
from docids.strings import Strings

_K1, _B = 1.5, 0.75


@dataclass(frozen=True)
class TermWeights:
    """Document frequencies of a corpus's terms; a term outside it counts as in one document.

    Attributes:
        frequency: Term in lower case -> documents that have it, where more than one.
        documents: How many documents there were.
        length: Mean number of terms in a document.
        language: Of the stop words, which are left out; "none" for none.
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
            keys = [key for key in in_terms(text).keys if key not in left_out]
            total += len(keys)
            counts.update(set(keys))
        frequency = {term: count for term, count in counts.items() if count > 1}
        return cls(frequency, len(texts), total / max(len(texts), 1), language)

    def ranked(self, text: str, most: int) -> list[str]:
        """Returns the terms of a text by BM25 weight, the heaviest first.

        Args:
            text: The text.
            most: How many terms to return at most; of equal weight, the one said first.
        """
        left_out = stopwords(self.language)
        counts = Counter(key for key in in_terms(text).keys if key not in left_out)
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
        """Returns the weights that `arrays` was taken from.

        Raises:
            InputError: The extras hold none.
        """
        try:
            terms = Strings(extras["term_text"], extras["term_offsets"])
            frequency = dict(zip(terms, extras["term_frequency"].tolist(), strict=True))
            documents, length = extras["term_corpus"].tolist()
        except KeyError as error:
            raise InputError(
                f"the identifiers lack their term weights ({error.args[0]!r} is missing)",
                hint="Assign them again",
            ) from None
        return cls(frequency, int(documents), length, language)
