"""Documents as a Python program has them: records, a path, or a dataset."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from data_prep.dataset import Dataset, InMemorySource, write_dataset
from data_prep.errors import InputError

Given = Iterable[Mapping[str, Any]] | str | os.PathLike[str] | Dataset
"""Documents as they may be given; see `build`."""


def dataset_of(documents: Given, folder: Path) -> Dataset:
    """Opens the dataset that was given, or writes the documents into a folder as one.

    Args:
        documents: As for `build`.
        folder: Where to write it.
    """
    from data_prep.sources import detect
    from data_prep.sources.base import SourceOptions
    from data_prep.sources.table import documents_of_records

    if isinstance(documents, Dataset):
        return documents
    if isinstance(documents, str | os.PathLike):
        if (Path(documents) / "dataset.json").is_file():
            return Dataset.open(Path(documents))
        return write_dataset(folder, detect(os.fspath(documents)))
    found = list(documents_of_records(_records(documents), SourceOptions(), "documents"))
    return write_dataset(folder, InMemorySource(found, name="documents"))


def _records(documents: object) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (number from 1, document as it was given).

    Raises:
        InputError: It is something else than mappings.
    """
    hint = 'Give a mapping for each, such as {"id": "d1", "text": "..."}, in a list'
    if not isinstance(documents, Iterable):
        raise InputError(f"{documents!r:.80} is no documents", hint=hint)
    for number, record in enumerate(documents, 1):
        if not isinstance(record, Mapping):
            raise InputError(f"document {number} is no mapping but {record!r:.80}", hint=hint)
        yield number, dict(record)
