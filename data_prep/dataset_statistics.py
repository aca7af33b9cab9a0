"""The statistics of a dataset card: lengths, languages, duplicates, judged queries, warnings."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import mean, median
from typing import Any

from data_prep.dataset import Dataset, Document
from data_prep.errors import InputError
from data_prep.files import read_json, write_json
from data_prep.languages import detector, shares
from data_prep.text_processing import normalize

FILE = "card.json"
_SAMPLED = 1000
"""Documents, evenly spaced, whose language is detected."""
_QUOTATION = 8
"""Minimum words of a query that occurs verbatim in its document for it to count as a quotation."""


@dataclass(frozen=True)
class DatasetStatistics:
    """Statistics of a dataset.

    Attributes:
        words: Words of a document's text: "mean", "median" and "longest".
        query_words: The same of a query; empty without queries.
        languages: Language or script -> its fraction of the documents (in large datasets, of a
            sample).
        languages_by: "languages" (ISO 639-1, by py3langid) or "scripts" (Unicode).
        duplicate_texts: Documents with title and text of an earlier one, ignoring case and spaces.
        shared_titles: Documents whose title another one has, too; without those without a title.
        empty_texts: Documents that have only a title.
        queries_per_document: Split -> judged queries for each document that has one, on average.
        seen: Split -> fraction of its queries that ask for a document with a training query.
        leaks: Split -> queries that are training queries, too, ignoring case and spaces.
        quoted: Split -> queries that contain the whole text of a document that they ask for, or
            that stand in it word for word and are long.
        warnings: What will hurt, a line each.
    """

    words: dict[str, float]
    query_words: dict[str, float]
    languages: dict[str, float]
    languages_by: str
    duplicate_texts: int
    shared_titles: int
    empty_texts: int
    queries_per_document: dict[str, float]
    seen: dict[str, float]
    leaks: dict[str, int]
    quoted: dict[str, int]
    warnings: list[str] = field(default_factory=list)


def dataset_statistics(dataset: Dataset) -> DatasetStatistics:
    """Reads a dataset once and describes it."""
    judged = {split: _relevant(dataset, split) for split in dataset.info.qrels}
    normalized = {query: normalize(text) for query, text in dataset.query_texts().items()}
    others = {split: found for split, found in judged.items() if split != "train" and found}
    corpus = _Corpus(dataset.info.documents, _queries_by_document(others, normalized))
    for document in dataset.documents():
        corpus.see(document)
    training = judged.get("train", {})
    trained = set().union(*training.values()) if training else set()
    training_texts = {normalized[query] for query in training}
    card = DatasetStatistics(
        words=_lengths(corpus.lengths),
        query_words=_lengths([len(text.split()) for text in normalized.values()]),
        languages=corpus.languages(),
        languages_by=corpus.languages_by,
        duplicate_texts=sum(corpus.texts.values()) - len(corpus.texts),
        shared_titles=sum(count for count in corpus.titles.values() if count > 1),
        empty_texts=corpus.empty,
        queries_per_document={
            split: sum(map(len, found.values())) / len(set().union(*found.values()))
            for split, found in judged.items()
            if found
        },
        seen={
            split: sum(not trained.isdisjoint(relevant) for relevant in found.values()) / len(found)
            for split, found in others.items()
        },
        leaks={
            split: sum(normalized[q] in training_texts for q in found)
            for split, found in others.items()
        },
        quoted={split: len(corpus.quoted & found.keys()) for split, found in others.items()},
    )
    card.warnings.extend(_warnings(card, dataset.info.passages is not None))
    return card


class _Corpus:
    """Counts that are collected in one pass over the documents.

    Args:
        documents: Number of documents.
        asking: doc_id -> (query_id, normalized text) of queries that ask for it.
    """

    def __init__(self, documents: int, asking: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        self.lengths: list[int] = []
        self.texts: Counter[bytes] = Counter()
        self.titles: Counter[bytes] = Counter()
        self.empty = 0
        self.quoted: set[str] = set()
        self.languages_by, self._detect = detector()
        self._queries_by_document = asking
        self._every = max(1, documents // _SAMPLED)
        self._sample: list[str] = []

    def see(self, document: Document) -> None:
        """Counts a document."""
        if len(self.lengths) % self._every == 0:
            self._sample.append(f"{document.title}\n{document.text}")
        self.lengths.append(len(document.text.split()))
        self.empty += not document.text.strip()
        self.texts[_digest(f"{document.title}\n{document.text}")] += 1
        if document.title.strip():
            self.titles[_digest(document.title)] += 1
        queries = self._queries_by_document.get(document.doc_id)
        if queries:
            text = normalize(document.text)
            self.quoted.update(query for query, normalized in queries if _quotes(normalized, text))

    def languages(self) -> dict[str, float]:
        """Returns language or script -> its fraction of the sample."""
        return shares(self._sample, self._detect)


def _quotes(query: str, text: str) -> bool:
    """Returns whether a query contains a text, or is long and stands in it; both normalized."""
    if text and f" {text} " in f" {query} ":
        return True
    return len(query.split()) >= _QUOTATION and f" {query} " in f" {text} "


def _queries_by_document(
    judged: Mapping[str, Mapping[str, set[str]]], normalized: Mapping[str, str]
) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for queries in judged.values():
        for query, relevant in queries.items():
            for doc_id in relevant:
                found.setdefault(doc_id, []).append((query, normalized[query]))
    return found


def _relevant(dataset: Dataset, split: str) -> dict[str, set[str]]:
    found = {
        query: {doc_id for doc_id, grade in judged.items() if grade > 0}
        for query, judged in dataset.qrels_of(split).items()
    }
    return {query: doc_ids for query, doc_ids in found.items() if doc_ids}


def _lengths(lengths: Sequence[int]) -> dict[str, float]:
    if not lengths:
        return {}
    return {
        "mean": float(mean(lengths)),
        "median": float(median(lengths)),
        "longest": float(max(lengths)),
    }


def _digest(text: str) -> bytes:
    return hashlib.blake2b(normalize(text).encode(), digest_size=16).digest()


def _warnings(card: DatasetStatistics, passages: bool) -> list[str]:
    found = []
    if card.duplicate_texts:
        found.append(
            f"documents with the title and text of an earlier one: {card.duplicate_texts:,}; only"
            " one of them can be ranked first; use --drop_duplicate_texts to drop the others"
        )
    if card.shared_titles and not passages:
        found.append(
            f"documents that share a title with another one: {card.shared_titles:,}; --docids title"
            " needs more than the title to distinguish them"
        )
    if card.empty_texts:
        found.append(
            f"documents with a title but no text: {card.empty_texts:,}; only the words of the title"
            " can retrieve them"
        )
    for split, count in card.leaks.items():
        if count:
            found.append(
                f"{split} queries that are also training queries: {count:,}; they measure"
                " memorization"
            )
    for split, count in card.quoted.items():
        if count:
            found.append(
                f"{split} queries that repeat their document word for word: {count:,}; any search"
                " for words finds it"
            )
    return found


def write_card(dataset: Dataset) -> DatasetStatistics:
    """Computes the card of a dataset and writes it to the dataset's folder, as `card.json`."""
    card = dataset_statistics(dataset)
    write_json(dataset.path / FILE, {"content_hash": dataset.info.content_hash, **asdict(card)})
    return card


def read_card(dataset: Dataset) -> DatasetStatistics:
    """Returns the stored card of a dataset, or a new one if none was stored for this content."""
    if (dataset.path / FILE).is_file():
        content = read_json(dataset.path / FILE)
        try:
            if content.pop("content_hash", None) == dataset.info.content_hash:
                return DatasetStatistics(**content)
        except (TypeError, AttributeError):
            raise InputError(
                "the dataset card is damaged",
                where=dataset.path / FILE,
                hint="Remove it; it will be created again",
            ) from None
    return dataset_statistics(dataset)


def card_rows(dataset: Dataset, card: DatasetStatistics) -> list[tuple[str, Any]]:
    """Returns the card as the rows of a table: name and value."""
    info = dataset.info
    return [
        ("documents", info.documents),
        ("queries", info.queries),
        # Scripts search the output for this spelling of the row, the former one.
        *((f"judgements ({split})", count) for split, count in info.qrels.items()),
        *_rows("words per document", card.words),
        *_rows("words per query", card.query_words),
        (f"{card.languages_by} of documents", _language_list(card.languages)),
        ("documents with the text of an earlier one", card.duplicate_texts),
        ("documents that share a title", card.shared_titles),
        ("documents without text", card.empty_texts),
        *(
            (f"queries per document ({split})", each)
            for split, each in card.queries_per_document.items()
        ),
        *((f"fraction of seen documents ({split})", share) for split, share in card.seen.items()),
        *(
            (f"queries that are also training queries ({split})", each)
            for split, each in card.leaks.items()
        ),
        *(
            (f"queries that repeat their document ({split})", each)
            for split, each in card.quoted.items()
        ),
        ("source", info.source),
        ("license", info.license),
        ("content hash", info.content_hash[:16]),
    ]


def _rows(what: str, values: Mapping[str, float]) -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        yield f"{what}, {name}", f"{value:,.1f}" if name == "mean" else int(value)


def _language_list(languages: Mapping[str, float]) -> str:
    """Returns the languages of at least one document in a hundred, with their shares."""
    common = {name: share for name, share in languages.items() if share >= 0.01}
    rest = 1 - sum(common.values())
    if rest > 0.0005:
        common["others"] = rest
    return ", ".join(f"{name} {100 * share:.1f} %" for name, share in common.items())
