"""An index from documents in hand, and more documents for it: the short way from Python.

`dsi.build` is `dsi prepare` and `dsi train` in one, `dsi.update` is `dsi update`. Each stage can be
called by itself too: `data_prep.dataset.write_dataset`, `dsi.indexing.build.train_index`,
`dsi.updating.update.update_index`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.dataset import Dataset, InMemorySource, write_dataset
from data_prep.errors import InputError
from dsi.index import Index

if TYPE_CHECKING:
    from dsi.indexing.options import TrainingOptions
    from dsi.updating.options import UpdateOptions

Given = Iterable[Mapping[str, Any]] | str | os.PathLike[str] | Dataset
"""Documents as they may be given; see `build`."""


def build(
    documents: Given, path: str | os.PathLike[str], options: TrainingOptions | None = None
) -> Index:
    """Trains an index on documents and opens it; called again after an interruption, it continues.

    Args:
        documents: One mapping for each, as a line of JSONL has it: `id` and `text`, and `title`
            and `url` where there are some. Or whatever `dsi prepare` reads by itself, by its path
            or name; or a dataset, which may have labelled queries.
        path: The folder of the index.
        options: Those of `dsi train`; its defaults where None.

    Raises:
        InputError: A document is no mapping, or lacks its id or text; two have the same id; the
            folder holds something else; an option does not fit.
    """
    from dsi.indexing.build import train_index
    from dsi.indexing.options import TrainingOptions

    with tempfile.TemporaryDirectory() as scratch:
        dataset = dataset_of(documents, Path(scratch) / "dataset")
        train_index(dataset, Path(path), options or TrainingOptions())
    return Index.open(path)


def update(
    documents: Given, path: str | os.PathLike[str], options: UpdateOptions | None = None
) -> Index:
    """Adds documents to an index as a new version, and opens it.

    Documents that the index has already are left out; one whose text has changed is replaced.

    Args:
        documents: As for `build`.
        path: The folder of the index.
        options: Those of `dsi update`; its defaults where None.

    Raises:
        InputError: A document lacks its id or text, there is no index, or an option does not fit.
    """
    from dsi.updating.options import UpdateOptions
    from dsi.updating.strategy_parsing import refuse_unused
    from dsi.updating.update import update_index

    options = options or UpdateOptions()
    refuse_unused(options)
    update_index(Path(path), lambda folder: dataset_of(documents, folder), options)
    return Index.open(path)


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
