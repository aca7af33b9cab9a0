"""A dataset in figures: lengths, duplicates, judged queries, and what will hurt."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from statistics import median

from data_prep.dataset import Dataset
from data_prep.text_processing import normalize


@dataclass(frozen=True)
class DatasetStatistics:
    """What a dataset is like.

    Attributes:
        words: Words of a document's text: "median" and "longest".
        duplicate_texts: Documents with title and text of an earlier one, but for case and blanks.
        shared_titles: Documents whose title another one has, too; without those without a title.
        queries_per_document: Split -> judged queries for each document that has one, on average.
        seen: Split -> share of its queries that ask for a document with a training query.
        leaks: Split -> queries that are training queries, too, but for case and blanks.
        warnings: What will hurt, a line each.
    """

    words: dict[str, float]
    duplicate_texts: int
    shared_titles: int
    queries_per_document: dict[str, float]
    seen: dict[str, float]
    leaks: dict[str, int]
    warnings: list[str] = field(default_factory=list)


def dataset_statistics(dataset: Dataset) -> DatasetStatistics:
    """Reads a dataset once and describes it."""
    lengths: list[int] = []
    texts: Counter[bytes] = Counter()
    titles: Counter[bytes] = Counter()
    for document in dataset.documents():
        lengths.append(len(document.text.split()))
        texts[_digest(f"{document.title}\n{document.text}")] += 1
        if document.title.strip():
            titles[_digest(document.title)] += 1
    judged = {split: _relevant(dataset, split) for split in dataset.info.qrels}
    said = {query: normalize(text) for query, text in dataset.query_texts().items()}
    training = judged.get("train", {})
    trained = set().union(*training.values()) if training else set()
    asked = {said[query] for query in training}
    others = {split: found for split, found in judged.items() if split != "train" and found}
    card = DatasetStatistics(
        words={"median": float(median(lengths)), "longest": float(max(lengths))},
        duplicate_texts=sum(texts.values()) - len(texts),
        shared_titles=sum(count for count in titles.values() if count > 1),
        queries_per_document={
            split: sum(map(len, found.values())) / len(set().union(*found.values()))
            for split, found in judged.items()
            if found
        },
        seen={
            split: sum(not trained.isdisjoint(wanted) for wanted in found.values()) / len(found)
            for split, found in others.items()
        },
        leaks={split: sum(said[q] in asked for q in found) for split, found in others.items()},
    )
    card.warnings.extend(_warnings(card, dataset.info.passages is not None))
    return card


def _relevant(dataset: Dataset, split: str) -> dict[str, set[str]]:
    found = {
        query: {doc_id for doc_id, grade in judged.items() if grade > 0}
        for query, judged in dataset.qrels_of(split).items()
    }
    return {query: wanted for query, wanted in found.items() if wanted}


def _digest(text: str) -> bytes:
    return hashlib.blake2b(normalize(text).encode(), digest_size=16).digest()


def _warnings(card: DatasetStatistics, passages: bool) -> list[str]:
    found = []
    if card.duplicate_texts:
        found.append(
            f"{card.duplicate_texts:,} documents have the title and text of an earlier one: only"
            " one of them can be ranked first; see --drop_duplicate_texts"
        )
    if card.shared_titles and not passages:
        found.append(
            f"{card.shared_titles:,} documents share a title with another: --docids title needs"
            " more than the title to tell them apart"
        )
    for split, count in card.leaks.items():
        if count:
            found.append(
                f"{count:,} {split} queries are training queries, too: what they measure is memory"
            )
    return found
