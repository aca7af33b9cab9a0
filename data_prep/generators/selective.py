"""Pseudo-queries modeled on the labeled ones: which words of a document users choose.

The generator learns in seconds from the training queries of the Dataset: how likely a word of a
document is to be used in a query for it, and which other words queries contain. A template is a
training query with blanks for its document's words; a pseudo-query is a template whose blanks are
filled with words of another document. Documents without training queries thus get queries of the
same length, with the same words from outside documents ("what", "how many", "called"), and a model
learns that those words do not indicate any document. No judgments of dev or test are read.
"""

from __future__ import annotations

from collections import Counter
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
    split_terms,
    title_and_sentences,
)
from data_prep.marks import Advanced, Count, Share
from data_prep.text_processing import fold, stemmer, stopwords

FEWEST_PAIRS = 50
"""Minimum number of training pairs to learn from."""

MOST_PAIRS = 5_000
"""Maximum number of training pairs; more only take more time."""

IDF_BUCKETS = 8
RAREST_WORD = 3
"""Minimum training queries with a word outside their document for templates to keep it."""

SPARE = 1.3


@dataclass(frozen=True)
class SelectiveOptions(GeneratorOptions, group="selective"):
    """How the selective generator shapes its queries."""

    template_fraction: Advanced[Share] = 0.9
    """Fraction of queries that keep the other words of a training query as a template"""
    elsewhere: Advanced[Share] = 0.1
    """Weight of words outside the sentence that the query is about"""
    shortest: Advanced[Count] = 2
    """Minimum document words per query"""
    language: Advanced[str] = "english"
    """Language of the stop words and stems; none disables both"""


@dataclass(frozen=True)
class _Words:
    """The distinct words of a document without stop words, in order of appearance."""

    surfaces: list[str]
    keys: list[str]
    sentence: np.ndarray
    """int [words]: the sentence of first occurrence; 0 for the title, 1 for the first sentence."""
    features: np.ndarray
    """float32 [words, features]."""


@dataclass(frozen=True)
class _Template:
    """A training query with blanks for the words it shares with its document."""

    words: list[str | None]
    """Its words in order; None for a blank."""

    @property
    def blanks(self) -> int:
        return self.words.count(None)

    def fill(self, words: list[str]) -> list[str]:
        """Fills the blanks with words in order; remaining blanks are removed."""
        supply = iter(words)
        filled = [next(supply, None) if word is None else word for word in self.words]
        return [word for word in filled if word is not None] + list(supply)


@GENERATORS.register("selective")
class Selective(Generator):
    """Fills the blanks of training queries with words of a document, as users would choose them.

    Raises:
        InputError: The Dataset has fewer than `FEWEST_PAIRS` training pairs.
    """

    options_class = SelectiveOptions
    version = 2

    def __init__(self, dataset: Dataset, options: GeneratorOptions) -> None:
        assert isinstance(options, SelectiveOptions)
        self.options = options
        self.stopwords = stopwords(options.language)
        self._stem = stemmer(options.language)
        pairs = _training_pairs(dataset, options.seed)
        self.idf = InverseDocumentFrequency(dataset.documents(), dataset.info.documents)
        self._fit(dataset, pairs)

    def _fit(self, dataset: Dataset, pairs: list[tuple[str, str]]) -> None:
        from sklearn.linear_model import LogisticRegression

        queries_of: dict[str, list[Sentence]] = {}
        for doc_id, text in pairs:
            queries_of.setdefault(doc_id, []).append(split_terms(text))
        features: list[np.ndarray] = []
        used: list[np.ndarray] = []
        templates: list[_Template] = []
        unexplained: Counter[str] = Counter()
        for document in dataset.documents():
            if document.doc_id not in queries_of:
                continue
            words = self._words(document)
            stems = self._stem(words.keys)
            stem_set = set(stems)
            for query in queries_of[document.doc_id]:
                query_stems = self._stem(query.keys)
                hits = set(query_stems)
                features.append(words.features)
                used.append(np.array([stem in hits for stem in stems], dtype=bool))
                shared = [
                    stem in stem_set and key not in self.stopwords
                    for stem, key in zip(query_stems, query.keys, strict=True)
                ]
                templates.append(
                    _Template(
                        [
                            None if of_document else term
                            for term, of_document in zip(query.terms, shared, strict=True)
                        ]
                    )
                )
                unexplained.update({fold(word) for word in templates[-1].words if word})
        x, y = np.concatenate(features), np.concatenate(used)
        if not y.any() or y.all():
            raise InputError(
                "the training queries share no words with their documents",
                where=dataset.path,
                hint="Use the generator 'extractive'",
            )
        self._model = LogisticRegression(C=1.0, max_iter=200).fit(x, y)
        # A word used by few queries is specific to its document rather than typical of queries.
        common = {word for word, count in unexplained.items() if count >= RAREST_WORD}
        self._templates = [
            _Template([word for word in template.words if word is None or fold(word) in common])
            for template in templates
            if template.blanks
        ]
        self._sizes = np.array(
            [max(self.options.shortest, template.blanks) for template in self._templates]
        )
        self._question_share = float(np.mean([text.rstrip().endswith("?") for _, text in pairs]))

    def _words(self, document: Document) -> _Words:
        title, body = title_and_sentences(document)
        counts = Counter(key for sentence in body for key in sentence.keys)
        in_title = set(title.keys)
        rows: dict[str, tuple[str, int]] = {}
        for number, sentence in enumerate([title, *body]):
            for surface, key in zip(sentence.terms, sentence.keys, strict=True):
                if key not in self.stopwords:
                    rows.setdefault(key, (surface, number))
        keys = list(rows)
        surfaces = [surface for surface, _ in rows.values()]
        place = np.array([number for _, number in rows.values()], dtype=np.int64)
        features = np.zeros((len(keys), IDF_BUCKETS + 6), dtype=np.float32)
        if keys:
            idf = np.array([self.idf(key) for key in keys])
            highest = np.log1p(max(self.idf.documents, 1))
            bucket = np.minimum((idf / highest * IDF_BUCKETS).astype(int), IDF_BUCKETS - 1)
            features[np.arange(len(keys)), bucket] = 1.0
            features[:, -6] = np.log1p([counts[key] for key in keys])
            features[:, -5] = place / max(1, len(body))
            features[:, -4] = [key in in_title for key in keys]
            features[:, -3] = [any(c.isdigit() for c in key) for key in keys]
            features[:, -2] = [surface[0].isupper() for surface in surfaces]
            features[:, -1] = np.log([len(key) for key in keys])
        return _Words(surfaces, keys, place, features)

    def generate(self, document: Document) -> list[str]:
        """Returns the pseudo-queries of one document."""
        words = self._words(document)
        if not words.keys:
            return []
        rng = rng_of(document, self.options.seed)
        count = int(np.ceil(self.options.per_doc * SPARE))
        odds = np.exp(words.features @ self._model.coef_[0] + self._model.intercept_[0])
        chances = odds / (1 + odds)
        about = np.unique(words.sentence[words.sentence > 0])
        if not len(about):
            about = np.array([0])
        likely = np.array([chances[words.sentence == number].sum() for number in about])
        chosen = rng.choice(about, size=count, p=likely / likely.sum())
        near = (words.sentence[None] == chosen[:, None]) | (words.sentence == 0)[None]
        weights = odds[None] * np.where(near, 1.0, self.options.elsewhere)
        templates = rng.integers(0, len(self._templates), count)
        in_template = (rng.random(count) < self.options.template_fraction).tolist()
        with_mark = (rng.random(count) < self._question_share).tolist()
        queries: list[str] = []
        for row, positions in enumerate(sample_positions(rng, weights, self._sizes[templates])):
            parts = [words.surfaces[position] for position in positions]
            if in_template[row]:
                parts = self._templates[templates[row]].fill(parts)
            queries.append(" ".join(parts) + ("?" if with_mark[row] else ""))
        return distinct(queries, self.options.per_doc)


def _training_pairs(dataset: Dataset, seed: int) -> list[tuple[str, str]]:
    """Returns (doc_id, query text) for a seeded sample of the relevant training pairs."""
    texts = dataset.query_texts()
    pairs = [
        (doc_id, texts[query_id])
        for query_id, judged in dataset.qrels_of("train").items()
        for doc_id, relevance in judged.items()
        if relevance > 0
    ]
    if len(pairs) < FEWEST_PAIRS:
        raise InputError(
            f"{len(pairs)} labeled training pairs are too few: 'selective' needs at least"
            f" {FEWEST_PAIRS}",
            where=dataset.path,
            hint="Use the generator 'extractive', which needs none",
        )
    order = np.random.default_rng([seed, len(pairs)]).permutation(len(pairs))[:MOST_PAIRS]
    return [pairs[position] for position in sorted(order.tolist())]
