"""Splits a dataset into D0 and increments: a folder with the datasets d0, d1, ..."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_prep.dataset import TABLES, Dataset, Document, Qrel, Query, SourceData
from data_prep.dataset_writer import refuse_other_content, write_dataset
from data_prep.errors import InputError
from data_prep.files import read_json, refuse_irreplaceable, replacing_named_folder, write_json
from data_prep.former_names import with_current_names
from data_prep.splits import increment_shares, queries_of_parts, split_documents

_SPLIT = "split.json"
_ALL_SPLITS = ("train", "dev", "test")


class _Part(SourceData):
    """One corpus of a split dataset, with its allowed queries."""

    def __init__(
        self,
        dataset: Dataset,
        name: str,
        doc_ids: Iterable[str],
        queries: dict[str, Sequence[str]],
    ) -> None:
        self.name = name
        self.source = f"{dataset.info.source} ({name})"
        self.license = dataset.info.license
        self.drop_duplicate_texts = False
        self._dataset = dataset
        self._doc_ids = frozenset(doc_ids)
        self._queries = queries

    def documents(self) -> Iterator[Document]:
        return (each for each in self._dataset.documents() if each.doc_id in self._doc_ids)

    def queries(self) -> Iterator[Query]:
        query_ids = {query_id for some in self._queries.values() for query_id in some}
        for query_id, text in self._dataset.query_texts().items():
            if query_id in query_ids:
                yield Query(query_id, text)

    def qrels(self) -> Iterator[Qrel]:
        for split, query_ids in self._queries.items():
            judged = self._dataset.qrels_of(split)
            for query_id in query_ids:
                for doc_id, relevance in judged[query_id].items():
                    if doc_id in self._doc_ids:
                        yield Qrel(query_id, doc_id, relevance, split)


def split_dataset(
    dataset: Dataset,
    out: Path,
    *,
    increments: int,
    fraction: float,
    seed: int,
    documents: int | None = None,
) -> list[Dataset]:
    """Splits a dataset into D0 and increments: the folders d0, d1, ... of `out`.

    D0 keeps its queries of all splits; increments keep only test queries. A query belongs to the
    part with the last of its relevant documents.

    Args:
        dataset: The dataset to split.
        out: Output folder.
        increments: Number of increments besides D0.
        fraction: D0's fraction of the documents; the rest is divided evenly among the increments.
        seed: Random seed.
        documents: Use only the first N documents.

    If the same split exists already, it is kept with everything made in it.

    Raises:
        InputError: The fractions are impossible, or `out` holds other files, or another split with
            results in its parts.
    """
    if out.is_dir() and any(out.iterdir()) and not (out / _SPLIT).is_file():
        refuse_other_content(out)
        raise InputError(
            "this folder holds files that are not a split dataset",
            where=out,
            hint="Choose another --out; this folder was not changed",
        )
    refuse_irreplaceable(out, _is_part)
    if documents is not None and documents < 1:
        raise InputError(f"--documents {documents} is less than 1")
    fractions = increment_shares(fraction, increments)
    parts = split_documents(dataset.doc_ids[:documents], fractions, seed)
    settings = {
        "dataset": dataset.info.name,
        "content_hash": dataset.info.content_hash,
        "increments": increments,
        "fraction": fraction,
        "seed": seed,
        "documents": [len(part) for part in parts],
    }
    if (out / _SPLIT).is_file():
        if read_split(out) == settings:
            return open_split(out)
        _refuse_losses(out)
    queries = {split: queries_of_parts(dataset.qrels_of(split), parts) for split in _ALL_SPLITS}
    with replacing_named_folder(out, _is_part) as fresh:
        for number, doc_ids in enumerate(parts):
            splits_of_part = _ALL_SPLITS if number == 0 else ("test",)
            source = _Part(
                dataset,
                f"{dataset.info.name}-d{number}",
                doc_ids,
                {split: queries[split][number] for split in splits_of_part},
            )
            write_dataset(fresh / f"d{number}", source)
        write_json(fresh / _SPLIT, settings)
    return open_split(out)


def _refuse_losses(out: Path) -> None:
    """Refuses to replace parts that contain other files."""
    for inside in sorted(out.glob("d*/*")):
        if _is_part(inside.parent.name) and inside.name not in TABLES:
            raise InputError(
                "this folder has another split of a dataset, and these results in it would be lost",
                where=inside,
                hint="Choose another --out, or remove it",
            )


def _is_part(name: str) -> bool:
    """Returns whether an entry of this name in a split dataset is our own."""
    return name == _SPLIT or re.fullmatch(r"d\d+", name) is not None


def open_split(folder: Path) -> list[Dataset]:
    """Opens D0, D1, ... in the folder of a split dataset.

    Raises:
        InputError: The folder is not a split dataset.
    """
    count = int(read_split(folder)["increments"])
    return [Dataset.open(folder / f"d{number}") for number in range(count + 1)]


def read_split(folder: Path) -> dict[str, Any]:
    """Returns the split parameters of a split dataset.

    Raises:
        InputError: The folder is not a split dataset.
    """
    if not (folder / _SPLIT).is_file():
        raise InputError(
            "not a split dataset (split.json is missing)",
            where=folder,
            hint="Create one with: dsi split DATASET --out FOLDER",
        )
    return with_current_names(read_json(folder / _SPLIT), "split")
