"""BEIR folders: corpus.jsonl, queries.jsonl and qrels/{train,dev,test}.tsv."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.dataset import SPLITS, Document, Qrel, Query
from data_prep.errors import InputError
from data_prep.sources.base import SOURCES, Source, SourceOptions, existing
from data_prep.sources.judged import read_qrels, read_queries
from data_prep.sources.records import as_id, as_text, records

# Some BEIR collections name the development split so.
_OTHER_NAMES = {"dev": ("dev", "validation", "valid")}


def _file(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)


@SOURCES.register("beir")
class Beir(Source):
    """A folder in the layout of BEIR (Thakur et al., NeurIPS 2021)."""

    prefix = "beir"
    form = "a BEIR folder (corpus.jsonl, queries.jsonl, qrels/*.tsv)"

    def __init__(self, argument: str, options: SourceOptions) -> None:
        super().__init__(argument, options)
        self.folder = existing(argument)
        corpus = _file(self.folder, "corpus.jsonl")
        if corpus is None:
            raise InputError("no corpus.jsonl in this folder", where=argument)
        self.corpus = corpus

    @classmethod
    def accepts(cls, argument: str) -> bool:
        """Takes a folder with a corpus.jsonl."""
        return Path(argument).is_dir() and _file(Path(argument), "corpus.jsonl") is not None

    def documents(self) -> Iterator[Document]:
        """Yields the records of corpus.jsonl (`_id`, `title`, `text`)."""
        for number, record in records(self.corpus):
            where = f"{self.corpus}:{number}"
            title, text = (as_text(record, column, where) for column in ("title", "text"))
            yield Document(as_id(record, "_id", where), title, text)

    def queries(self) -> Iterator[Query]:
        """Yields the records of queries.jsonl, or none."""
        path = _file(self.folder, "queries.jsonl")
        if path is not None:
            yield from read_queries(path, self.options)

    def qrels(self) -> Iterator[Qrel]:
        """Yields the judgements of qrels/, split by split."""
        for split in SPLITS:
            for name in _OTHER_NAMES.get(split, (split,)):
                path = _file(self.folder / "qrels", f"{name}.tsv")
                if path is not None:
                    yield from read_qrels(path, split)
                    break
