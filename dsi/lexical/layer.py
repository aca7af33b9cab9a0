"""The lexical layer of an index, which scores every document for a query."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from docids.store import check_offsets, naming, open_store, write_store
from docids.strings import Strings
from dsi.lexical.features import Scales, Statistics
from dsi.lexical.lexicon import Lexicon, neighbors
from dsi.lexical.weighting import Weighting, entry_weights
from dsi.lexical.words import Vocabulary


@dataclass(frozen=True)
class Postings:
    """The weights of terms in documents: words first, then pairs.

    Attributes:
        offsets: Where the documents of each term start, and the end of the last; int64 [terms + 1].
        rows: The documents of each term, ascending; int32 [entries].
        weights: Non-negative weight of the term in the document; float32 [entries].
        pairs: The known pairs, ascending, first << 32 | second; int64 [pairs].
        documents: How many documents there are.
    """

    offsets: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    pairs: npt.NDArray[np.int64]
    documents: int

    @classmethod
    def of(
        cls, weighting: Weighting, lexicon: Lexicon, statistics: Statistics, scales: Scales
    ) -> Postings:
        """Computes the weights of all entries of a lexicon."""
        return cls.weighted(
            lexicon, statistics, *entry_weights(weighting, lexicon, statistics, scales)
        )

    @classmethod
    def weighted(
        cls,
        lexicon: Lexicon,
        statistics: Statistics,
        words: npt.NDArray[np.float32],
        pairs: npt.NDArray[np.float32],
    ) -> Postings:
        """Arranges the weights of all entries of a lexicon by term.

        Args:
            lexicon: The counts.
            statistics: Statistics of the same corpus.
            words: The weight of each word entry; float32 [entries].
            pairs: The weight of each pair entry; float32 [pair entries].
        """
        import scipy.sparse as sparse

        shape = (len(lexicon), len(statistics.idf))
        by_word = sparse.csr_matrix((words, lexicon.words, lexicon.offsets), shape=shape).T.tocsr()
        columns = np.searchsorted(statistics.pairs, lexicon.pair_keys)
        shape = (len(lexicon), len(statistics.pairs))
        by_pair = sparse.csr_matrix((pairs, columns, lexicon.pair_offsets), shape=shape).T.tocsr()
        offsets = [by_word.indptr, by_pair.indptr[1:] + np.int64(by_word.nnz)]
        return cls(
            np.concatenate(offsets).astype(np.int64),
            np.concatenate([by_word.indices, by_pair.indices]).astype(np.int32),
            np.concatenate([by_word.data, by_pair.data]).astype(np.float32),
            statistics.pairs,
            len(lexicon),
        )

    def check(self, words: int) -> None:
        """Checks postings from a store.

        Raises:
            InputError: They are inconsistent, or a weight is not finite.
        """
        check_offsets(self.offsets, len(self.rows), "the offsets of postings")
        if len(self.offsets) != words + len(self.pairs) + 1:
            raise InputError(f"postings of {len(self.offsets) - 1} terms")
        if len(self.weights) != len(self.rows):
            raise InputError(f"{len(self.weights)} weights of {len(self.rows)} postings")
        if len(self.rows) and not 0 <= self.rows.min() <= self.rows.max() < self.documents:
            raise InputError(
                f"a posting refers to a document beyond the {self.documents} documents"
            )
        if len(self.weights) and not np.isfinite(np.sum(self.weights)):
            raise InputError("a weight is not a finite number")
        if (self.pairs[1:] <= self.pairs[:-1]).any():
            raise InputError("pairs are not in order")


@dataclass(frozen=True)
class QueryTerms:
    """How often each query has each term.

    Attributes:
        offsets: Where the terms of each query start, and the end of the last; int64 [queries + 1].
        terms: Numbers of terms, as in `Postings`; int64 [entries].
        counts: How often the query has the term, 1 for a pair; float32 [entries].
    """

    offsets: npt.NDArray[np.int64]
    terms: npt.NDArray[np.int64]
    counts: npt.NDArray[np.float32]

    def __len__(self) -> int:
        """The number of queries."""
        return len(self.offsets) - 1

    @property
    def owners(self) -> npt.NDArray[np.int64]:
        """The query of each entry; int64 [entries]."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def of(self, queries: npt.NDArray[np.int64]) -> QueryTerms:
        """Returns the terms of some queries, in the order given."""
        lengths = np.diff(self.offsets)[queries]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[queries] - offsets[:-1], lengths)
        return QueryTerms(offsets, self.terms[places], self.counts[places])


@dataclass(frozen=True)
class Term:
    """The contribution of one query word, or pair of neighbors, to the score of a document.

    Attributes:
        term: The word as the lexical layer counts it (a stem), or two words.
        count: How often the query has it.
        weight: Its weight in the document; 0 if the document does not have it.
        adds: `count` times `weight`.
    """

    term: str
    count: int
    weight: float
    adds: float


class LexicalLayer:
    """Scores documents by the words they share with a query.

    Args:
        vocabulary: Maps words to numbers.
        postings: The weights.
        outcome: Human-readable result of training; empty if nothing was trained.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        postings: Postings,
        outcome: Mapping[str, float] | None = None,
    ) -> None:
        self.vocabulary = vocabulary
        self.postings = postings
        self.outcome = dict(outcome or {})

    def __len__(self) -> int:
        """The number of documents."""
        return self.postings.documents

    def terms(self, texts: Sequence[str]) -> QueryTerms:
        """Returns how often each query has each term; a pair counts once."""
        return query_terms(texts, self.vocabulary, self.postings.pairs)

    def scores(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns the score of every document for queries: the sum of its weights for their terms.

        Args:
            texts: The queries.

        Returns:
            float32 [texts, documents], 0 or more.
        """
        return self.scores_of(self.terms(texts))

    def scores_of(self, terms: QueryTerms) -> npt.NDArray[np.float32]:
        """Returns the score of every document for the terms of queries.

        Args:
            terms: As `terms` returns them.

        Returns:
            float32 [queries, documents], 0 or more.
        """
        scores = np.zeros((len(terms), self.postings.documents), np.float32)
        rows, weights = self.postings.rows, self.postings.weights
        starts = self.postings.offsets[terms.terms].tolist()
        ends = self.postings.offsets[terms.terms + 1].tolist()
        owners = terms.owners.tolist()
        for query, count, start, end in zip(owners, terms.counts, starts, ends, strict=True):
            weight = weights[start:end] if count == 1 else count * weights[start:end]
            np.add.at(scores[query], rows[start:end], weight)
        return scores

    def terms_of(self, text: str, rows: Sequence[int]) -> list[list[Term]]:
        """Returns the parts that add up to the score of some documents.

        Args:
            text: A query.
            rows: Rows of documents.

        Returns:
            For each row, one entry for each known term of the query, in the order in which `scores`
            adds them up.
        """
        line = self.terms([text])
        words = self.vocabulary.words
        terms_by_row: list[list[Term]] = [[] for _ in rows]
        for term, count in zip(line.terms.tolist(), line.counts, strict=True):
            name = self._name(term, words)
            start, end = self.postings.offsets[term : term + 2]
            documents = self.postings.rows[start:end]
            weights = self.postings.weights[start:end]
            for terms, row in zip(terms_by_row, rows, strict=True):
                place = int(np.searchsorted(documents, row))
                has = place < len(documents) and documents[place] == row
                weight = weights[place] if has else np.float32(0.0)
                terms.append(Term(name, int(count), float(weight), float(count * weight)))
        return terms_by_row

    def _name(self, term: int, words: Sequence[str]) -> str:
        """Returns the word of a term, or the two words of a pair."""
        if term < len(words):
            return words[term]
        first, second = divmod(int(self.postings.pairs[term - len(words)]), 1 << 32)
        return f"{words[first]} {words[second]}"

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the layer to `folder`, replacing it."""
        words = Strings.pack(self.vocabulary.words)
        arrays: dict[str, np.ndarray] = {
            "text": words.text,
            "text_offsets": words.offsets,
            "offsets": self.postings.offsets,
            "rows": self.postings.rows,
            "weights": self.postings.weights,
            "pairs": self.postings.pairs,
        }
        header = {
            "language": self.vocabulary.language,
            "code": self.vocabulary.code,
            "documents": self.postings.documents,
            "outcome": self.outcome,
        }
        write_store(folder, "lexical", header, arrays)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> LexicalLayer:
        """Opens what `save` wrote, memory-mapping the weights.

        Raises:
            InputError: It is missing or damaged.
        """
        header, arrays = open_store(folder, "lexical")
        with naming(folder):
            words = Strings(arrays["text"], arrays["text_offsets"])
            words.check()
            if not isinstance(header["language"], str) or type(header["documents"]) is not int:
                raise InputError("damaged header")
            # Plain views of the mapped memory: each slice of a memmap would be a costly memmap
            # object.
            postings = Postings(
                np.asarray(arrays["offsets"]),
                np.asarray(arrays["rows"]),
                np.asarray(arrays["weights"]),
                np.asarray(arrays["pairs"]),
                header["documents"],
            )
            postings.check(len(words))
            vocabulary = Vocabulary(header["language"], header["code"] is True, words)
            outcome = dict(header["outcome"])
        return cls(vocabulary, postings, outcome)


def query_terms(
    texts: Sequence[str], vocabulary: Vocabulary, pairs: npt.NDArray[np.int64]
) -> QueryTerms:
    """Returns how often each query has each term; a pair counts once.

    Args:
        texts: The queries.
        vocabulary: Maps words to numbers; unknown words are skipped.
        pairs: The known pairs, ascending; int64 [pairs].
    """
    # As titles, which are one sentence each: neighbors in a query may span two sentences.
    tokens = vocabulary.split(texts, [""] * len(texts), grow=False)
    in_vocabulary = tokens.words >= 0
    keys, owners = neighbors(tokens)
    keys, owners, _ = _counted(keys, owners)
    places = np.searchsorted(pairs, keys)
    places[places == len(pairs)] = 0
    is_known_pair = pairs[places] == keys if len(pairs) else np.zeros(len(keys), bool)
    words, of_words, counts = _counted(tokens.words[in_vocabulary], tokens.texts[in_vocabulary])
    columns = np.concatenate([words, places[is_known_pair] + len(vocabulary)])
    rows = np.concatenate([of_words, owners[is_known_pair]])
    order = np.argsort(rows, kind="stable")
    counts = np.concatenate([counts, np.ones(int(is_known_pair.sum()), np.float32)])
    ends = np.searchsorted(rows[order], np.arange(len(texts) + 1))
    return QueryTerms(ends, columns[order], counts[order])


def _counted(
    keys: npt.NDArray[np.int64], owners: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Returns the distinct keys of each text, ascending, their texts, and their counts."""
    order = np.lexsort((keys, owners))
    keys, owners = keys[order], owners[order]
    fresh = np.ones(len(keys), bool)
    fresh[1:] = (keys[1:] != keys[:-1]) | (owners[1:] != owners[:-1])
    starts = np.flatnonzero(fresh)
    counts = np.diff(np.append(starts, len(keys))).astype(np.float32)
    return keys[starts], owners[starts], counts
