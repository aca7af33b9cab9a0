"""Collections of the ir_datasets package, by id."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.dataset import SPLITS, Document, Qrel, Query
from data_prep.errors import InputError
from data_prep.fetching import Fetching
from data_prep.files import read_json
from data_prep.sources.base import SOURCES, Source, SourceOptions

_SPLIT_OF_PART = {"validation": "dev", "valid": "dev", **{split: split for split in SPLITS}}


def split_of(dataset_id: str) -> str:
    """Returns the split of an ir_datasets id: its last part that names a split.

    The split is "test" if the id names none ("vaswani", "msmarco-passage/trec-dl-2019/judged").
    """
    for part in reversed(dataset_id.split("/")):
        if part in _SPLIT_OF_PART:
            return _SPLIT_OF_PART[part]
    return "test"


def ids_of_beir(name: str) -> str:
    """Returns the comma-separated ids of all splits of a BEIR collection.

    Raises:
        InputError: ir_datasets is not installed, or there is no such collection.
    """
    library = _library(f"beir:{name}")
    dataset_ids = []
    for dataset_id in [*(f"beir/{name}/{split}" for split in SPLITS), f"beir/{name}"]:
        with contextlib.suppress(KeyError):
            library.load(dataset_id)
            dataset_ids.append(dataset_id)
    if not dataset_ids:
        raise InputError(
            f"{name!r} is neither a BEIR collection of ir_datasets nor a folder",
            where=f"beir:{name}",
            hint="Give a name such as scifact, nq or cqadupstack/english, or a folder",
        )
    # If there are splits, the full collection repeats their queries.
    return ",".join(dataset_ids[:-1] or dataset_ids)


def size_of_beir(name: str) -> int | None:
    """Returns the bytes that ir_datasets downloads for a BEIR collection; None if unknown."""
    at = getattr(_library(f"beir:{name}"), "__file__", None)
    file = Path(at).parent / "etc" / "downloads.json" if at else None
    if file is None or not file.is_file():
        return None
    size: int | None = (
        read_json(file).get("beir", {}).get(name.partition("/")[0], {}).get("size_hint")
    )
    return size


def _library(source: str) -> Any:
    try:
        return importlib.import_module("ir_datasets")
    except ImportError:
        raise InputError(
            "the package ir_datasets is not installed",
            where=source,
            hint="Install it with: pip install 'dsi-toolkit[ir-datasets]'",
        ) from None


@SOURCES.register("ir_datasets")
class IrDatasets(Source):
    """One or more comma-separated ids over the same corpus, which is read from the first."""

    prefix = "ir_datasets"
    form = "ir_datasets:ID (or ir_datasets:ID/train,ID/test)"

    def __init__(self, argument: str, options: SourceOptions) -> None:
        super().__init__(argument.replace("/", "-").replace(",", "+"), options)
        self.source = f"ir_datasets:{argument}"
        self._fetching = Fetching(
            "ir_datasets cannot load it",
            where=self.source,
            hint="Check the connection and the documentation of this collection in ir_datasets",
        )
        library = _library(self.source)
        self.parts: dict[str, Any] = {}
        for dataset_id in argument.split(","):
            self.parts[dataset_id] = self._load(library, dataset_id.strip())
        self._refuse_other_corpora()

    def _load(self, library: Any, dataset_id: str) -> Any:
        try:
            with self._fetching.translated(KeyError):
                return library.load(dataset_id)
        except KeyError:
            raise InputError(
                f"ir_datasets has no dataset {dataset_id!r}",
                where=self.source,
                hint="The ids are listed at https://ir-datasets.com",
            ) from None

    def _refuse_other_corpora(self) -> None:
        """Refuses ids whose documents differ from those of the first, the only ones read."""
        (first_id, first), *others = self.parts.items()
        with self._fetching.translated():
            if not first.has_docs():
                raise InputError("this dataset has no documents", where=self.source)
            for dataset_id, part in others:
                if part.has_docs() and part.docs_handler() != first.docs_handler():
                    raise InputError(
                        f"{dataset_id} and {first_id} have different documents",
                        where=self.source,
                        hint="Prepare each of them separately",
                    )

    @classmethod
    def accepts(cls, argument: str) -> bool:
        """Accepts nothing without the prefix."""
        return False

    def documents(self) -> Iterator[Document]:
        """Yields the documents of the first id."""
        for doc in self._fetching.rows(next(iter(self.parts.values())).docs_iter):
            url = getattr(doc, "url", None) or ""
            if hasattr(doc, "title") and hasattr(doc, "text"):
                yield Document(doc.doc_id, doc.title or "", doc.text or "", url)
            else:
                yield Document(doc.doc_id, "", doc.default_text(), url)

    def queries(self) -> Iterator[Query]:
        """Yields the queries of every id that has queries."""
        for part in self.parts.values():
            if part.has_queries():
                for query in self._fetching.rows(part.queries_iter):
                    yield Query(query.query_id, query.default_text())

    def qrels(self) -> Iterator[Qrel]:
        """Yields the judgments of every id that has judgments; the id determines the split."""
        for dataset_id, part in self.parts.items():
            if part.has_qrels():
                for qrel in self._fetching.rows(part.qrels_iter):
                    split = split_of(dataset_id)
                    yield Qrel(qrel.query_id, qrel.doc_id, int(qrel.relevance), split)
