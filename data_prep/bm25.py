"""BM25 as Lucene computes it: the baseline of every learned ranking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.text_processing import IN_WORDS, normalize, snowball, spaced, stopwords

_WORD = rf"(?<![{IN_WORDS}])[{IN_WORDS}]{{2,}}(?![{IN_WORDS}])"


class Bm25:
    """BM25 over texts (bm25s, Lucene variant, k1 = 1.5, b = 0.75).

    Terms are lower-cased and stemmed words of two or more letters, without stop words; in scripts
    that do not separate words, all pairs of adjacent characters.

    Args:
        texts: The texts to search.
        language: Language of stop words and stemmer, such as "english"; "none" for neither.

    Raises:
        InputError: The language has no stop words or no stemmer.
    """

    def __init__(self, texts: Sequence[str], language: str = "english") -> None:
        import bm25s

        self._stopwords = sorted(stopwords(language))
        self._stemmer = snowball(language)
        self._rows = len(texts)
        tokens = list(self.tokenize(texts))
        # bm25s cannot index a corpus without terms.
        self._index = None
        if any(tokens):
            self._index = bm25s.BM25(method="lucene")
            self._index.index(tokens, show_progress=False)

    def tokenize(self, texts: Sequence[str]) -> Iterator[list[str]]:
        """Returns the words of each text."""
        import bm25s

        return iter(
            bm25s.tokenize(
                list(map(spaced, map(normalize, texts))),
                token_pattern=_WORD,
                stopwords=self._stopwords,
                stemmer=self._stemmer,
                return_ids=False,
                show_progress=False,
            )
        )

    def scores(self, words: list[str]) -> npt.NDArray[np.float32]:
        """Returns the score of each text for the words of a query; float32 [texts]."""
        if self._index is None:
            return np.zeros(self._rows, np.float32)
        # bm25s cannot score a query of which it knows no word.
        in_vocabulary = [word for word in words if word in self._index.vocab_dict]
        if not in_vocabulary:
            return np.zeros(self._rows, np.float32)
        return self._index.get_scores(in_vocabulary)

    def score_matrix(self, queries: Sequence[str]) -> Any:
        """Returns the scores of all texts for many queries, those above 0.

        Returns:
            A scipy CSR matrix, float32 [queries, texts].
        """
        import scipy.sparse as sparse

        tokens = list(self.tokenize(queries))
        if self._index is None:
            return sparse.csr_matrix((len(queries), self._rows), dtype=np.float32)
        stored, vocabulary = self._index.scores, self._index.vocab_dict
        # bm25s stores the score of every term in every text; the score of a query is their sum.
        words = sparse.csr_matrix(
            (stored["data"], stored["indices"], stored["indptr"]),
            shape=(len(stored["indptr"]) - 1, self._rows),
        )
        columns = [[vocabulary[word] for word in line if word in vocabulary] for line in tokens]
        lengths = [len(line) for line in columns]
        flat = np.array([column for line in columns for column in line], np.int64)
        query_words = sparse.csr_matrix(
            (np.ones(len(flat), np.float32), flat, np.concatenate([[0], np.cumsum(lengths)])),
            shape=(len(queries), words.shape[0]),
        )
        return query_words @ words

    def ranks(self, queries: Sequence[str], rows: Sequence[int]) -> npt.NDArray[np.int64]:
        """Returns the rank at which each query finds one given text.

        Args:
            queries: The queries.
            rows: For each query, the row of its relevant text.

        Returns:
            int64 [queries], from 1. Ties are broken by the lower row. 0 where query and text share
            no term.
        """
        ranks = np.zeros(len(queries), np.int64)
        for place, (words, row) in enumerate(zip(self.tokenize(queries), rows, strict=True)):
            scores = self.scores(words)
            target_score = scores[row]
            if target_score > 0:
                ranks[place] = (
                    1 + (scores > target_score).sum() + (scores[:row] == target_score).sum()
                )
        return ranks
