"""Documents passed from Python: records, a path, or a dataset."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from data_prep.checks import as_path
from data_prep.dataset import Dataset, InMemorySource, SourceData
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from data_prep.passages import PassageOptions, PassageSource
from data_prep.progress import note
from data_prep.sources.base import SourceOptions, refuse_unused
from dsi.index_folder import versions
from dsi.index_folder.versions import Manifest

Given = Iterable[Mapping[str, Any]] | str | os.PathLike[str] | Dataset
"""The accepted forms of documents; see `build`."""


def dataset_of(
    documents: Given,
    folder: Path,
    source: SourceOptions | None = None,
    passages: PassageOptions | None = None,
) -> Dataset:
    """Opens the given dataset, or writes the documents to a folder as one.

    Args:
        documents: As for `build`.
        folder: Where to write it.
        source: Columns and further files, for documents that are not a dataset.
        passages: How to split documents into passages, if they are not a dataset.

    Raises:
        InputError: Source options are given for a dataset, which is already prepared.
    """
    from data_prep.sources import detect
    from data_prep.sources.tabular_files import documents_of_records

    source, passages = source or SourceOptions(), passages or PassageOptions()
    if isinstance(documents, str | os.PathLike):
        as_path(documents, "documents")
    if isinstance(documents, str | os.PathLike) and (Path(documents) / "dataset.json").is_file():
        documents = Dataset.open(Path(documents))
    if isinstance(documents, Dataset):
        refuse_unused(frozenset(), "a dataset, which is prepared already", source)
        return documents
    data: SourceData
    if isinstance(documents, str | os.PathLike):
        data = detect(os.fspath(documents), source)
        if data.download is not None:
            note(f"downloading {data.download}")
    else:
        rows = documents_of_records(_records(documents), source, "documents")
        data = InMemorySource(list(rows), name="documents")
    if passages.passages is not None:
        data = PassageSource(data, passages)
    return write_dataset(folder, data)


def check_given(documents: str, source: SourceOptions) -> None:
    """Checks that a dataset or source exists and can be recognized, without reading its documents.

    Args:
        documents: As on the command line; "-" is not checked, as it can be read only once.
        source: Columns and further files.

    Raises:
        InputError: It does not exist, is not recognized, or does not take these options.
    """
    from data_prep.sources import detect

    if (Path(documents) / "dataset.json").is_file():
        Dataset.open(Path(documents))
    elif documents != "-":
        detect(documents, source)


def passages_of(index: str | os.PathLike[str]) -> PassageOptions:
    """Returns how the documents of an index are split into passages.

    Raises:
        InputError: There is no index.
    """
    manifest = Manifest.load(versions.folder(index, versions.live(index)))
    return PassageOptions(**(manifest.passages or {}))


def _records(documents: object) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (number from 1, document as given).

    Raises:
        InputError: It contains something other than mappings.
    """
    hint = 'Give a mapping for each, such as {"id": "d1", "text": "..."}, in a list'
    if hasattr(documents, "to_dict") and hasattr(documents, "columns"):
        raise InputError(
            "documents is a DataFrame",
            hint='Give its rows: frame.fillna("").to_dict(orient="records")',
        )
    if not isinstance(documents, Iterable):
        raise InputError(f"{documents!r:.80} is not a collection of documents", hint=hint)
    for number, record in enumerate(documents, 1):
        if not isinstance(record, Mapping):
            raise InputError(f"document {number} is not a mapping: {record!r:.80}", hint=hint)
        yield number, dict(record)
