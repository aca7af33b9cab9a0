"""Pseudo-queries extracted from the document: sentences, spans and keywords, without a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_prep.dataset import Dataset, Document
from data_prep.errors import InputError
from data_prep.generators.base import (
    GENERATORS,
    Generator,
    GeneratorOptions,
    distinct,
    rng_of,
)
from data_prep.generators.document_terms import (
    InverseDocumentFrequency,
    Sentence,
    sample_positions,
    title_and_sentences,
)
from data_prep.marks import Advanced, Count, NotNegative, Share
from data_prep.text_processing import stopwords

SPARE = 1.3
"""Candidates sampled per requested query, so that duplicates can be dropped."""


@dataclass(frozen=True)
class ExtractiveOptions(GeneratorOptions, group="extractive"):
    """Options of the extractive generator: the proportions of its queries and their lengths."""

    keyword_fraction: Advanced[Share] = 0.7
    """Fraction of queries made of the keywords of a sentence, in order"""
    span_fraction: Advanced[Share] = 0.2
    """Fraction of queries that are a span of words; the rest are sentences"""
    fewest_keywords: Advanced[Count] = 2
    """Minimum keywords per query"""
    most_keywords: Advanced[Count] = 6
    """Maximum keywords per query; short queries train better than long ones"""
    title_fraction: Advanced[Share] = 0.3
    """Fraction of keyword queries that start with words of the title"""
    fewest_span_words: Advanced[Count] = 3
    """Minimum words per span"""
    most_span_words: Advanced[Count] = 10
    """Maximum words per span"""
    most_sentence_words: Advanced[Count] = 24
    """Maximum words per sentence"""
    stopword_weight: Advanced[NotNegative] = 0.05
    """Weight of a stop word relative to another word of equal frequency"""
    language: Advanced[str] = "english"
    """Language of the stop words; none disables them"""

    def conflicts(self) -> None:
        """Refuses fractions that sum to more than 1, and a minimum above its maximum."""
        if self.keyword_fraction + self.span_fraction > 1:
            raise InputError(
                f"{self.written('keyword_fraction')} and {self.written('span_fraction')} sum to "
                "more than 1",
                hint="Both are proportions of all queries; the remaining queries are sentences",
            )
        for fewest, most in (
            ("fewest_keywords", "most_keywords"),
            ("fewest_span_words", "most_span_words"),
        ):
            if getattr(self, fewest) > getattr(self, most):
                raise InputError(f"{self.written(fewest)} is more than {self.written(most)}")


@GENERATORS.register("extractive")
class Extractive(Generator):
    """A seeded mix of keyword subsets, spans and whole sentences of a document."""

    options_class = ExtractiveOptions

    def __init__(self, dataset: Dataset, options: GeneratorOptions) -> None:
        assert isinstance(options, ExtractiveOptions)
        self.options = options
        self.stopwords = stopwords(options.language)
        self.idf = InverseDocumentFrequency(dataset.documents(), dataset.info.documents)

    def generate(self, document: Document) -> list[str]:
        """Returns the pseudo-queries of one document."""
        options = self.options
        title, body = title_and_sentences(document)
        if not body:
            return []
        rng = rng_of(document, options.seed)
        count = int(np.ceil(options.per_doc * SPARE))
        lengths = np.array([len(sentence.terms) for sentence in body], dtype=np.float64)
        chosen = rng.choice(len(body), size=count, p=lengths / lengths.sum())
        form = rng.random(count)
        keyword_rows = np.flatnonzero(form < options.keyword_fraction)
        queries: list[str] = [""] * count
        for row, text in zip(
            keyword_rows.tolist(),
            self._keywords(rng, title, body, chosen[keyword_rows]),
            strict=True,
        ):
            queries[row] = text
        sizes = rng.integers(options.fewest_span_words, options.most_span_words + 1, count).tolist()
        starts = rng.random(count).tolist()
        for row in np.flatnonzero(form >= options.keyword_fraction).tolist():
            sentence = body[chosen[row]]
            size, start = sizes[row], 0
            if form[row] < options.keyword_fraction + options.span_fraction:
                start = int(starts[row] * max(1, len(sentence.terms) - size + 1))
            elif len(sentence.terms) <= options.most_sentence_words:
                queries[row] = sentence.text
                continue
            else:
                size = options.most_sentence_words
            queries[row] = sentence.join(range(start, min(start + size, len(sentence.terms))))
        return distinct(queries, options.per_doc)

    def _keywords(
        self, rng: np.random.Generator, title: Sentence, body: list[Sentence], chosen: np.ndarray
    ) -> list[str]:
        """Returns a keyword query for each of the chosen sentences (int [queries])."""
        options = self.options
        weights = self._weights(title, body)
        width = max(map(len, weights))
        table = np.zeros((len(body) + 1, width))
        for row, values in enumerate(weights):
            table[row, : len(values)] = values
        sizes = rng.integers(options.fewest_keywords, options.most_keywords + 1, len(chosen))
        from_title = np.where(
            rng.random(len(chosen)) < options.title_fraction, np.minimum(sizes // 2, 3), 0
        )
        if body[0] is title:
            from_title[:] = 0
        heads = sample_positions(rng, np.broadcast_to(table[-1], (len(chosen), width)), from_title)
        tails = sample_positions(rng, table[chosen], sizes - from_title)
        queries: list[str] = []
        for index, head, tail in zip(chosen.tolist(), heads, tails, strict=True):
            sentence = body[index]
            if head:
                in_title = {title.keys[position] for position in head}
                tail = [position for position in tail if sentence.keys[position] not in in_title]
            parts = (title.join(head), sentence.join(tail))
            queries.append(" ".join(part for part in parts if part))
        return queries

    def _weights(self, title: Sentence, body: list[Sentence]) -> list[list[float]]:
        """Returns the term weights of each sentence, and last those of the title.

        idf x (1 + ln tf in the text); a repeated term in a sentence has weight 0.
        """
        counts: dict[str, int] = {}
        for sentence in body:
            for key in sentence.keys:
                counts[key] = counts.get(key, 0) + 1
        of_key = {
            key: self.idf(key)
            * (1.0 + _LOG[min(counts.get(key, 1), len(_LOG) - 1)])
            * (self.options.stopword_weight if key in self.stopwords else 1.0)
            for key in {*counts, *title.keys}
        }
        weights: list[list[float]] = []
        for sentence in [*body, title]:
            seen: set[str] = set()
            row: list[float] = []
            for key in sentence.keys:
                row.append(0.0 if key in seen else of_key[key])
                seen.add(key)
            weights.append(row)
        return weights


_LOG = [0.0, *np.log(np.arange(1, 101)).tolist()]
