"""Parquet: a file, or a folder with the parts of one table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.dataset import Document
from data_prep.errors import InputError
from data_prep.sources.base import SOURCES, SourceOptions, existing
from data_prep.sources.judged import JudgedByFiles
from data_prep.sources.parquet_rows import SUFFIX, parquet_columns, parquet_rows
from data_prep.sources.tabular_files import DOCUMENT_OPTIONS, document_columns, documents_of_records


@SOURCES.register("parquet")
class Parquet(JudgedByFiles):
    """One document per row; the files of a folder and its subfolders are read in order of name."""

    prefix = "parquet"
    form = "Parquet, one document per row (a .parquet file, or a folder of them)"
    place = 3
    uses = JudgedByFiles.uses | DOCUMENT_OPTIONS

    def __init__(self, argument: str, options: SourceOptions) -> None:
        super().__init__(argument, options)
        path = existing(argument)
        self.files = _files(path) if path.is_dir() else [path]
        if not self.files:
            raise InputError("no .parquet file in this folder", where=argument)
        # Checked before reading, because a column may be missing in the last file only.
        self.columns = [
            list(dict.fromkeys(filter(None, self._columns_of(file).values())))
            for file in self.files
        ]

    @classmethod
    def accepts(cls, argument: str) -> bool:
        """Accepts a file with that suffix, and a folder that contains some."""
        path = Path(argument)
        return (path.suffix.lower() == SUFFIX and path.is_file()) or bool(
            path.is_dir() and _files(path)
        )

    def documents(self) -> Iterator[Document]:
        """Yields one document per row."""
        yield from documents_of_records(self._rows(), self.options, self.source)

    def _columns_of(self, file: Path) -> dict[str, str | None]:
        return document_columns(parquet_columns(file), self.options, str(file))

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        number = 0
        for file, columns in zip(self.files, self.columns, strict=True):
            for _, row in parquet_rows(file, columns):
                number += 1
                yield number, row


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob(f"[!.]*{SUFFIX}") if path.is_file())
