"""Hugging Face datasets: a hub id, a local folder or file that `datasets` can load."""

from __future__ import annotations

import functools
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.dataset import Document, Qrel, Query
from data_prep.errors import InputError
from data_prep.fetching import Fetching
from data_prep.sources.base import SOURCES, SourceOptions, refuse_unused
from data_prep.sources.judged import (
    QRELS_DOC_NAMES,
    QRELS_QUERY_NAMES,
    QRELS_RELEVANCE_NAMES,
    JudgedByFiles,
    refuse_unnamed_relevance,
)
from data_prep.sources.records import Column, as_id, as_relevance, as_text
from data_prep.sources.tabular_files import DOCUMENT_OPTIONS, documents_of_records

_SAVED = ("state.json", "dataset_dict.json")
_SPLIT_NAMES = {"train": "train", "dev": "dev", "validation": "dev", "test": "test"}


@SOURCES.register("huggingface")
class HuggingFace(JudgedByFiles):
    """A dataset of the `datasets` library, streamed: nothing is copied to its cache.

    A dataset in the retrieval layout of the hub (configurations "corpus", "queries" and
    "default" or "qrels", the last with the splits) includes its queries and judgments. For any
    other, `--documents-split` (and `--subset`) selects the documents, one per row, and queries and
    judgments are read from files.
    """

    prefix = "hf"
    form = "hf:ID_OR_PATH (a Hugging Face dataset), or a folder that save_to_disk wrote"
    place = 5
    uses = JudgedByFiles.uses | DOCUMENT_OPTIONS | {"subset", "documents_split"}

    def __init__(self, argument: str, options: SourceOptions) -> None:
        super().__init__(argument, options)
        self.argument = argument
        self.source = f"hf:{argument}"
        self._fetching = Fetching(
            "datasets cannot load it",
            where=self.source,
            hint="Check the id or path, --subset, and the connection",
        )
        self.configurations = [] if self._saved() else self._configurations()
        self.retrieval_layout = {"corpus", "queries"} <= set(self.configurations)
        if self.retrieval_layout and options.queries is not None:
            raise InputError(
                "--queries cannot be combined with a dataset that has its own queries",
                where=self.source,
            )
        if self.retrieval_layout:
            form = "a dataset that has its own queries (the hub's retrieval layout)"
            refuse_unused(frozenset({"qrels_relevance_column"}), form, options)

    @classmethod
    def accepts(cls, argument: str) -> bool:
        """Accepts a folder written by `save_to_disk`."""
        return any((Path(argument) / name).is_file() for name in _SAVED)

    def documents(self) -> Iterator[Document]:
        """Yields the documents, one per row."""
        if self.retrieval_layout:
            rows = self._all_splits("corpus")
        else:
            rows = self._split(self._load(self.options.subset), self.options.documents_split)
        yield from documents_of_records(enumerate(rows, 1), self.options, self.source)

    def queries(self) -> Iterator[Query]:
        """Yields the queries of the configuration "queries", or of `--queries`."""
        if not self.retrieval_layout:
            yield from super().queries()
            return
        for number, row in enumerate(self._all_splits("queries"), 1):
            where = f"{self.source} queries:{number}"
            yield Query(as_id(row, "_id", where), as_text(row, "text", where))

    def qrels(self) -> Iterator[Qrel]:
        """Yields the judgments of "default" or "qrels", or of the files in the options."""
        if not self.retrieval_layout:
            yield from super().qrels()
            return
        name = next((n for n in ("default", "qrels") if n in self.configurations), None)
        if name is None:
            return
        loaded = self._load(name)
        if not any(split in loaded for split in _SPLIT_NAMES):
            raise InputError(
                f"no judgments in the splits {', '.join(_SPLIT_NAMES)}; available: "
                + ", ".join(loaded),
                where=self.source,
            )
        relevance = Column(
            self.options.qrels_relevance_column,
            QRELS_RELEVANCE_NAMES,
            what="relevance",
            option="--qrels-relevance-column",
            where=self.source,
        )
        for split, target_split in _SPLIT_NAMES.items():
            for number, row in enumerate(loaded.get(split, ()), 1):
                where = f"{self.source} {split}:{number}"
                query_column = _first(row, QRELS_QUERY_NAMES, where)
                doc_column = _first(row, QRELS_DOC_NAMES, where)
                column = relevance.name_in(row)
                if column is None:
                    refuse_unnamed_relevance(row, {query_column, doc_column}, where)
                yield Qrel(
                    as_id(row, query_column, where),
                    as_id(row, doc_column, where),
                    1 if column is None else as_relevance(row[column], where),
                    target_split,
                )
        relevance.refuse_missing()

    def _saved(self) -> bool:
        return self.accepts(self.argument)

    def _configurations(self) -> list[str]:
        import datasets

        with self._fetching.translated():
            return list(datasets.get_dataset_config_names(self.argument))

    def _load(self, configuration: str | None) -> dict[str, Iterator[dict[str, Any]]]:
        """Returns split -> rows, which can be read once."""
        with self._fetching.translated():
            loaded = self._load_splits(configuration)
        return {
            str(split): self._fetching.rows(functools.partial(loaded.__getitem__, split))
            for split in loaded
        }

    def _load_splits(self, configuration: str | None) -> Any:
        import datasets

        if self._saved():
            loaded = datasets.load_from_disk(os.path.abspath(self.argument))
            if isinstance(loaded, datasets.Dataset):
                return {self.options.documents_split or "train": loaded}
            return loaded
        # Streaming copies nothing into the cache, but leaves lock files there.
        with tempfile.TemporaryDirectory() as cache:
            return datasets.load_dataset(
                self.argument, configuration, streaming=True, cache_dir=cache
            )

    def _split(
        self, loaded: dict[str, Iterator[dict[str, Any]]], split: str | None
    ) -> Iterator[dict[str, Any]]:
        if split is None and len(loaded) == 1:
            split = next(iter(loaded))
        if split not in loaded:
            problem = "several splits" if split is None else f"no split {split!r}"
            raise InputError(
                f"{problem}; available: {', '.join(loaded)}",
                where=self.source,
                hint="Specify the split of the documents with --documents-split",
            )
        return loaded[split]

    def _all_splits(self, configuration: str) -> Iterator[dict[str, Any]]:
        return itertools.chain.from_iterable(self._load(configuration).values())


def _first(row: dict[str, Any], names: tuple[str, ...], where: str) -> str:
    for name in names:
        if name in row:
            return name
    raise InputError(
        f"no column is called {' or '.join(names)}; available: {', '.join(row)}", where=where
    )
