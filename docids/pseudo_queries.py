"""The pseudo-queries of a Dataset's documents, for kinds whose identifiers come from them."""

from __future__ import annotations

from collections.abc import Callable

from data_prep import arrow
from data_prep.dataset import Dataset
from data_prep.generate import generate_queries


def queries_of(dataset: Dataset, auto: str = "extractive") -> Callable[[str], list[list[str]]]:
    """Returns the function for `Documents.queries`: generator -> queries of each document.

    Missing pseudo-queries are generated with the generator's defaults on first use. Documents are
    in corpus order.

    Args:
        dataset: The Dataset.
        auto: The generator that "auto" stands for.
    """

    def ask(generator: str) -> list[list[str]]:
        name = auto if generator == "auto" else generator
        if name not in dataset.generators:
            generate_queries(dataset, name)
        queries: dict[str, list[str]] = {doc_id: [] for doc_id in dataset.doc_ids}
        for doc_id, text in arrow.read_rows(dataset.path / "pseudo" / name, ["doc_id", "text"]):
            queries[doc_id].append(text)
        return list(queries.values())

    return ask
