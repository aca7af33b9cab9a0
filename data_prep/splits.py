"""Splits: labeled queries into train, dev and test; documents into D0, D1, ..., Dn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from data_prep.dataset import Document, ExampleCounter, Qrel, Query, SourceData
from data_prep.errors import InputError
from data_prep.text_processing import normalize


def split_queries(
    texts: Mapping[str, str], *, dev_fraction: float, test_fraction: float, seed: int
) -> dict[str, str]:
    """Assigns queries to train, dev and test at random.

    Queries of the same text (ignoring case and white space) stay together, so that no test query is
    trained on under another id. The outcome does not depend on the order of `texts`.

    Args:
        texts: query_id -> text.
        dev_fraction: Fraction of the distinct texts that goes to dev, rounded.
        test_fraction: Fraction of the distinct texts that goes to test, rounded.
        seed: Random seed.

    Returns:
        query_id -> "train", "dev" or "test", in the order of `texts`.

    Raises:
        InputError: A fraction is negative, or the two leave nothing to train on.
    """
    _check_shares(dev_fraction, test_fraction)
    groups = sorted({normalize(text) for text in texts.values()})
    order = np.random.default_rng([seed, len(groups)]).permutation(len(groups)).tolist()
    dev = round(dev_fraction * len(groups))
    test = round(test_fraction * len(groups))
    split_of = dict.fromkeys(groups, "train")
    for position in order[:dev]:
        split_of[groups[position]] = "dev"
    for position in order[dev : dev + test]:
        split_of[groups[position]] = "test"
    return {query_id: split_of[normalize(text)] for query_id, text in texts.items()}


class SplitSource:
    """A source whose queries are split again into train, dev and test.

    The new splits are taken from the training queries of the source. If all its judgments are in
    one split, whatever its name, they are taken from all queries.

    Args:
        source: The source to split.
        dev_fraction: Fraction of the queries that goes to dev.
        test_fraction: Fraction of the queries that goes to test.
        seed: Random seed.

    Raises:
        InputError: A fraction is invalid, the source already has such a split, or there are no
            queries to split.
    """

    def __init__(
        self, source: SourceData, *, dev_fraction: float, test_fraction: float, seed: int
    ) -> None:
        _check_shares(dev_fraction, test_fraction)
        self.name = source.name
        self.source = source.source
        self.license = source.license
        self.drop_duplicate_texts = source.drop_duplicate_texts
        self.passed_over: dict[str, ExampleCounter] = getattr(source, "passed_over", {})
        self.noted: dict[str, ExampleCounter] = getattr(source, "noted", {})
        self._inner = source
        sizes = Counter(qrel.split for qrel in source.qrels())
        self._taken_from = "train" if len(sizes) != 1 else next(iter(sizes))
        if self._taken_from not in sizes:
            raise InputError(
                "--dev-fraction and --test-fraction need training judgments, and there are none",
                where=source.source,
            )
        for split, share in (("dev", dev_fraction), ("test", test_fraction)):
            if share > 0 and split in sizes and len(sizes) > 1:
                raise InputError(
                    f"--{split}-fraction {share}: the dataset already has a {split} split of"
                    f" {sizes[split]:,} judgments",
                    where=source.source,
                    hint=f"Omit --{split}-fraction",
                )
        judged: dict[str, set[str]] = {}
        for qrel in source.qrels():
            judged.setdefault(qrel.query_id, set()).add(qrel.split)
        texts = {
            query.query_id: query.text
            for query in source.queries()
            if judged.get(query.query_id) == {self._taken_from}
        }
        self._split_of = split_queries(
            texts, dev_fraction=dev_fraction, test_fraction=test_fraction, seed=seed
        )

    def documents(self) -> Iterable[Document]:
        """Yields the documents of the source."""
        return self._inner.documents()

    def queries(self) -> Iterable[Query]:
        """Yields the queries of the source."""
        return self._inner.queries()

    def qrels(self) -> Iterable[Qrel]:
        """Yields the judgments of the source, with their new splits."""
        for qrel in self._inner.qrels():
            split = self._split_of.get(qrel.query_id, qrel.split)
            yield Qrel(qrel.query_id, qrel.doc_id, qrel.relevance, split)


def increment_shares(first: float, increments: int) -> list[float]:
    """Returns the fractions of D0 and of `increments` equal parts of the rest; they sum to 1.

    Raises:
        InputError: D0 would be empty or the whole, or there is no increment.
    """
    if not 0 < first < 1:
        raise InputError(f"the proportion of D0 is {first}, which is not between 0 and 1")
    if increments < 1:
        raise InputError(f"the number of increments is {increments}, which is less than 1")
    return [first] + [(1 - first) / increments] * increments


def split_documents(doc_ids: Sequence[str], shares: Sequence[float], seed: int) -> list[list[str]]:
    """Splits documents at random into D0, D1, ..., Dn.

    Args:
        doc_ids: The distinct ids of the documents.
        shares: The fraction of each part; they sum to 1. Parts are rounded by at most one document.
        seed: Random seed. The outcome does not depend on the order of `doc_ids`.

    Returns:
        A partition of the documents; each part is in the order of `doc_ids`.

    Raises:
        InputError: The fractions do not sum to 1, or a part would be empty.
    """
    if not shares or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise InputError(f"the proportions {list(shares)} of documents do not sum to 1")
    ordered = sorted(doc_ids)
    places = np.random.default_rng([seed, len(ordered)]).permutation(len(ordered)).tolist()
    ends = np.rint(np.cumsum(shares) * len(ordered)).astype(int).tolist()
    if any(end <= start for start, end in zip([0, *ends], ends, strict=False)):
        raise InputError(
            f"{len(ordered):,} documents are too few for {len(shares):,} parts, the smallest with "
            f"a proportion of {min(shares):.3g}: a part would be empty"
        )
    part_of = {}
    for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        for place in places[start:end]:
            part_of[ordered[place]] = number
    parts: list[list[str]] = [[] for _ in shares]
    for doc_id in doc_ids:
        parts[part_of[doc_id]].append(doc_id)
    return parts


def queries_of_parts(
    qrels: Mapping[str, Mapping[str, int]], parts: Sequence[Sequence[str]]
) -> list[list[str]]:
    """Assigns each query to the first part at which all its relevant documents have arrived.

    A query of part i therefore needs no document beyond D0, ..., Di.

    Args:
        qrels: query_id -> {doc_id: relevance}, as `Dataset.qrels_of` returns it.
        parts: The documents of D0, D1, ..., Dn.

    Returns:
        The query ids of each part, in the order of `qrels`. Queries without a relevant document, or
        with one that is in no part, are omitted.
    """
    part_of = {doc_id: number for number, part in enumerate(parts) for doc_id in part}
    query_ids: list[list[str]] = [[] for _ in parts]
    for query_id, judged in qrels.items():
        numbers = [part_of.get(doc_id) for doc_id, relevance in judged.items() if relevance > 0]
        assigned = [number for number in numbers if number is not None]
        if numbers and len(assigned) == len(numbers):
            query_ids[max(assigned)].append(query_id)
    return query_ids


def _check_shares(dev_fraction: float, test_fraction: float) -> None:
    for name, share in (("dev", dev_fraction), ("test", test_fraction)):
        if share < 0:
            raise InputError(f"--{name}-fraction {share} is negative")
    if dev_fraction + test_fraction >= 1:
        raise InputError(
            f"--dev-fraction {dev_fraction} and --test-fraction {test_fraction} leave no queries"
            " for training"
        )
