"""BEIR folders: corpus.jsonl, queries.jsonl and qrels/{train,dev,test}.tsv."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from data_prep.compression import COMPRESSED_SUFFIXES
from data_prep.dataset import SPLITS, Document, ExampleCounter, Qrel, Query
from data_prep.errors import InputError
from data_prep.fetching import Download
from data_prep.sources.base import SOURCES, Source, SourceOptions, existing, refuse_unused
from data_prep.sources.ir_datasets import IrDatasets, ids_of_beir, size_of_beir
from data_prep.sources.judged import read_qrels, read_queries
from data_prep.sources.records import TABLE_SUFFIXES, as_id, as_text, records, suffix

_NAME = re.compile(r"[a-z0-9-]+(?:/[a-z0-9-]+)?")
# Some BEIR collections use this name for the development split.
_OTHER_NAMES = {"dev": ("dev", "validation", "valid")}
_UNREAD = "file that is not corpus.jsonl, queries.jsonl or qrels/{train,dev,test}.tsv"


def _file(folder: Path, name: str) -> Path | None:
    names = [name, *(f"{name}{suffix}" for suffix in COMPRESSED_SUFFIXES)]
    return _only(folder / each for each in names if (folder / each).is_file())


def _only(files: Iterable[Path]) -> Path | None:
    """Returns the only existing file, or None.

    Raises:
        InputError: There are two files, one of which would not be read.
    """
    existing = list(files)
    if len(existing) > 1:
        raise InputError(f"the same file also exists as {existing[1].name}", where=existing[0])
    return existing[0] if existing else None


@SOURCES.register("beir")
class Beir(Source):
    """A folder in the BEIR layout (Thakur et al., NeurIPS 2021), or a collection by name."""

    prefix = "beir"
    form = "a BEIR folder (corpus.jsonl, queries.jsonl, qrels/*.tsv), or beir:NAME"
    place = 6
    uses = frozenset({"encoding", "qrels_relevance_column"})

    def __init__(self, argument: str, options: SourceOptions) -> None:
        super().__init__(argument, options)
        self.published: IrDatasets | None = None
        if _NAME.fullmatch(argument) and not Path(argument).exists():
            refuse_unused(frozenset(), "beir:NAME, which ir_datasets reads", options)
            self.published = IrDatasets(ids_of_beir(argument), options)
            self.name = f"beir-{argument.replace('/', '-')}"
            self.source = f"beir:{argument}"
            self.download = Download(
                f"{self.source} with ir_datasets",
                size_of_beir(argument),
                "ir_datasets",
                "give the folder of its corpus.jsonl, queries.jsonl and qrels/ as the source",
                keeps=True,
            )
            return
        self.folder = existing(argument)
        corpus = _file(self.folder, "corpus.jsonl")
        if corpus is None:
            raise InputError("no corpus.jsonl in this folder", where=argument)
        self.corpus = corpus

    @classmethod
    def accepts(cls, argument: str) -> bool:
        """Accepts a folder with a corpus.jsonl."""
        return Path(argument).is_dir() and _file(Path(argument), "corpus.jsonl") is not None

    def documents(self) -> Iterator[Document]:
        """Yields the records of corpus.jsonl (`_id`, `title`, `text`, and optionally `url`)."""
        if self.published is not None:
            yield from self.published.documents()
            return
        self.passed_over.clear()
        for name in self._unread():
            self.passed_over.setdefault(_UNREAD, ExampleCounter()).add(name)
        for number, record in records(self.corpus, encoding=self.options.encoding):
            where = f"{self.corpus}:{number}"
            title, text, url = (as_text(record, name, where) for name in ("title", "text", "url"))
            yield Document(as_id(record, "_id", where), title, text, url)

    def queries(self) -> Iterator[Query]:
        """Yields the records of queries.jsonl, if it exists."""
        if self.published is not None:
            yield from self.published.queries()
            return
        path = _file(self.folder, "queries.jsonl")
        if path is not None:
            yield from read_queries(path, self.options)

    def qrels(self) -> Iterator[Qrel]:
        """Yields the judgments of qrels/, split by split."""
        if self.published is not None:
            yield from self.published.qrels()
            return
        for split, path in self._qrels_files().items():
            yield from read_qrels(path, split, self.options)

    def _qrels_files(self) -> dict[str, Path]:
        """Returns split -> file, for the splits that have judgments."""
        files = {}
        for split in SPLITS:
            names = (f"{name}.tsv" for name in _OTHER_NAMES.get(split, (split,)))
            paths = (_file(self.folder / "qrels", name) for name in names)
            path = _only(path for path in paths if path is not None)
            if path is not None:
                files[split] = path
        return files

    def _unread(self) -> list[str]:
        """Returns the names of tables in the folder, and of all files in qrels/, not read."""
        read = {self.corpus, _file(self.folder, "queries.jsonl"), *self._qrels_files().values()}
        tables = [path for path in self.folder.iterdir() if suffix(path) in TABLE_SUFFIXES]
        unread = {*tables, *(self.folder / "qrels").glob("*")} - read
        names = (path.relative_to(self.folder).as_posix() for path in unread if path.is_file())
        return sorted(name for name in names if not name.rpartition("/")[2].startswith("."))
