"""A small corpus in two parts: the initial documents of an index, and those added later."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import small

from data_prep.dataset import Dataset, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from dsi.lexical.options import LexicalOptions

if TYPE_CHECKING:
    from dsi.indexing.options import TrainingOptions

OLD, NEW = range(30), range(30, 40)


def write(folder: Path) -> dict[str, Dataset]:
    full = small.write(folder / "full")
    return {
        "full": full,
        "old": part(full, folder / "old", OLD, ("train", "dev", "test")),
        "new": part(full, folder / "new", NEW, ("test",)),
    }


def part(
    full: Dataset,
    path: Path,
    numbers: Iterable[int],
    splits: tuple[str, ...],
    *,
    others: Iterable[int] = (),
) -> Dataset:
    """Writes some documents of the corpus, their queries of some splits, and other documents."""
    wanted = {f"d{number}" for number in numbers}
    written = wanted | {f"d{number}" for number in others}
    texts = full.query_texts()
    qrels = [
        Qrel(query_id, doc_id, 1, split)
        for split in splits
        for query_id, judged in full.qrels_of(split).items()
        for doc_id in judged
        if doc_id in wanted
    ]
    documents = [document for document in full.documents() if document.doc_id in written]
    queries = [Query(qrel.query_id, texts[qrel.query_id]) for qrel in qrels]
    return write_dataset(path, InMemorySource(documents, queries, qrels, name=path.name))


def options(kind: str, *, lexical: bool = True, **changes: Any) -> TrainingOptions:
    """Returns how an index is trained.

    Without the lexical layer, what is found is what the network has learned: words alone find a
    document otherwise, new or old.
    """
    codes = {"semantic__codes": "node"} if kind == "semantic" else {}
    layer = LexicalOptions(enabled=lexical)
    return small.options(
        **{"docids": kind, "loop__steps": 16, "lexical": layer, **codes, **changes}
    )


def train(dataset: Dataset, out: Path, kind: str, *, lexical: bool = True) -> None:
    from dsi.indexing.build import train_index

    train_index(dataset, out, options(kind, lexical=lexical))


def found(index: Path, full: Dataset, numbers: Iterable[int], k: int = 10) -> float:
    """Share of the test queries of some documents that find theirs among the first k."""
    from dsi import Index

    numbers = list(numbers)
    texts = full.query_texts()
    hits = Index.open(index, "cpu").search([texts[f"test{n}"] for n in numbers], k=k)
    pairs = zip(numbers, hits, strict=True)
    return float(np.mean([f"d{n}" in [hit.doc_id for hit in some] for n, some in pairs]))


class StopError(Exception):
    """Ends an update; see `stopping`."""


def stopping(step: int) -> list[Any]:
    """A callback that ends an update right after a step, as if it had been interrupted."""
    from dsi.objectives.base import Objective

    class Stopping(Objective):
        name = "stopping"

        def after_step(self, model: Any, done: int) -> None:
            if done == step:
                raise StopError

    return [lambda update, model: Stopping()]


def update(
    index: str, new: str, options: object, operations: object, last: int | str, full: bool = False
) -> None:
    """Updates, in a child; counts operations on the disk, and dies just before one of them.

    Args:
        index: Path of the index.
        new: Path of the new documents.
        options: Update options.
        operations: A shared counter.
        last: As in `small.die_at`.
        full: As there.
    """
    small.die_at(operations, last, full=full)
    from dsi.updating.update import update_index

    update_index(Path(index), Dataset.open(new), options)
