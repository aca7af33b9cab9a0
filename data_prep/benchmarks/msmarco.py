"""MS MARCO (Bajaj et al., 2016), passages and documents: complete, or subsets from papers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.benchmarks.base import BENCHMARKS, Benchmark, chosen
from data_prep.dataset import Document
from data_prep.errors import InputError
from data_prep.fetching import Download
from data_prep.sources.base import SourceOptions
from data_prep.sources.ir_datasets import IrDatasets
from data_prep.sources.lines import lines

PASSAGES = "msmarco-passage/train/judged,msmarco-passage/dev/small"
DOCUMENTS = "msmarco-document/train,msmarco-document/dev"


def _file(folder: Path, *names: str) -> Path:
    """Returns the first existing file, gzipped or not."""
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise InputError(
        f"no file {' or '.join(names)}",
        where=folder,
        hint="Give the folder of the MS MARCO release",
    )


class MsMarco(Benchmark):
    """Base of the MS MARCO collections: split train for training, split dev for testing."""

    license_of = "MS MARCO terms: non-commercial research"
    ids: str
    """The ir_datasets ids of the release."""
    columns: tuple[str, ...]
    corpus: tuple[str, ...]
    files: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]
    """(split, names of the query file, names of the judgment file)."""

    def corpus_documents(self) -> Iterator[Document]:
        """Yields all documents of the release."""
        if self.release is None:
            yield from self._fetched().documents()
            return
        path = _file(self.release, *self.corpus)
        for number, line in lines(path):
            fields = line.rstrip("\r\n").split("\t")
            if len(fields) != len(self.columns):
                raise InputError(
                    f"{len(fields)} fields, but {', '.join(self.columns)} are expected",
                    where=f"{path}:{number}",
                )
            row = dict(zip(self.columns, fields, strict=True))
            yield Document(row["id"], row.get("title", ""), row["text"], row.get("url", ""))

    def judged(self) -> list[tuple[str, str, str, str]]:
        """Returns (query_id, query, doc_id, split) of every relevant pair."""
        if self.release is None:
            fetched = self._fetched()
            texts = {query.query_id: query.text for query in fetched.queries()}
            names = {"train": "train", "dev": "test", "test": "test"}
            return [
                (qrel.query_id, texts[qrel.query_id], qrel.doc_id, names[qrel.split])
                for qrel in fetched.qrels()
                if qrel.relevance > 0
            ]
        judgments = []
        for split, queries, qrels in self.files:
            texts = {}
            for _, line in lines(_file(self.release, *queries)):
                query_id, _, text = line.rstrip("\r\n").partition("\t")
                texts[query_id] = text
            path = _file(self.release, *qrels)
            for number, line in lines(path):
                fields = line.split()
                if len(fields) != 4 or fields[0] not in texts:
                    raise InputError("the judgment of a query is missing", where=f"{path}:{number}")
                if fields[3] != "0":
                    judgments.append((fields[0], texts[fields[0]], fields[2], split))
        return judgments

    def _fetched(self) -> IrDatasets:
        return IrDatasets(self.ids, SourceOptions())

    def selected_documents(self, pairs: list[tuple[str, str, str, str]]) -> set[str] | None:
        """Returns the documents of the collection; None for all."""
        return None

    def read(self) -> Iterator[Document]:
        """Yields the documents of the collection, in the order of the release."""
        pairs = self.judged()
        selected = self.selected_documents(pairs)
        for query_id, text, doc_id, split in pairs:
            if selected is None or doc_id in selected:
                self.ask(f"{split}-{query_id}", text, doc_id, split)
        for document in self.corpus_documents():
            if selected is None or document.doc_id in selected:
                yield document


@BENCHMARKS.register("msmarco-passage")
class MsMarcoPassage(MsMarco):
    """All passages."""

    name = "msmarco-passage"
    download = Download(
        "the MS MARCO passages, queries and judgments with ir_datasets",
        1_057_717_952 + 18_882_551 + 10_589_532 + 1_201_626,
        "sizes in ir_datasets 0.6.3",
        "pass the folder of collection.tsv, queries.*.tsv and qrels.*.tsv to --release",
        keeps=True,
    )
    recipe = "All passages; judged training queries train, the queries of dev.small test."
    ids = PASSAGES
    columns = ("id", "text")
    corpus = ("collection.tsv",)
    files = (
        ("train", ("queries.train.tsv",), ("qrels.train.tsv",)),
        ("test", ("queries.dev.small.tsv", "queries.dev.tsv"), ("qrels.dev.small.tsv",)),
    )
    sizes = {"documents": 8_841_823, "train": 502_939, "test": 6_980}  # noqa: RUF012


@BENCHMARKS.register("msmarco-100k")
class MsMarco100k(MsMarcoPassage):
    """The collection of DSI-QG, resampled."""

    name = "msmarco-100k"
    tests = 6_980
    others = 93_020
    recipe = (
        "For each query of dev.small one of its passages that no training query has (the first by "
        "hash), and passages that training queries have, drawn by hash, up to 100,000 in all; the "
        "queries whose passage is in it."
    )
    sizes = {"documents": 100_000, "test": (6_000, 6_980)}  # noqa: RUF012

    def selected_documents(self, pairs: list[tuple[str, str, str, str]]) -> set[str]:
        """Returns the documents selected by the recipe."""
        trained = {doc_id for _, _, doc_id, split in pairs if split == "train"}
        of_query: dict[str, list[str]] = {}
        for query_id, _, doc_id, split in pairs:
            if split == "test" and doc_id not in trained:
                of_query.setdefault(query_id, []).append(doc_id)
        tested = {min(ids, key=lambda each: chosen(each, self.name)) for ids in of_query.values()}
        order = sorted(trained, key=lambda each: chosen(each, self.name))
        return tested | set(order[: self.tests + self.others - len(tested)])


@BENCHMARKS.register("msmarco-1m")
class MsMarco1m(MsMarcoPassage):
    """The medium collection of the scaling study, resampled."""

    name = "msmarco-1m"
    size = 1_000_000
    recipe = (
        "All passages that a query of train or dev.small has, and others drawn by hash, up to "
        "1,000,000."
    )
    sizes = {"documents": 1_000_000, "test": 6_980}  # noqa: RUF012

    def selected_documents(self, pairs: list[tuple[str, str, str, str]]) -> set[str]:
        """Returns the documents selected by the recipe, in one pass over the passages."""
        judged = {doc_id for _, _, doc_id, _ in pairs}
        ids = (document.doc_id for document in self.corpus_documents())
        rest = sorted(
            (doc_id for doc_id in ids if doc_id not in judged),
            key=lambda each: chosen(each, self.name),
        )
        return judged | set(rest[: max(0, self.size - len(judged))])


@BENCHMARKS.register("msmarco-300k")
class MsMarco300k(MsMarco):
    """The documents used by Ultron and DDRO: those relevant to a query."""

    name = "msmarco-300k"
    download = Download(
        "the MS MARCO documents, queries and judgments with ir_datasets",
        8_501_799_926 + 6_457_962 + 2_385_717 + 91_837 + 38_553,
        "sizes in ir_datasets 0.6.3",
        "pass the folder of msmarco-docs.tsv and the files of msmarco-doctrain and -docdev with"
        " --release",
        keeps=True,
    )
    recipe = "All documents (not passages) that a query of train or dev has; their queries."
    ids = DOCUMENTS
    columns = ("id", "url", "title", "text")
    corpus = ("msmarco-docs.tsv",)
    files = (
        ("train", ("msmarco-doctrain-queries.tsv",), ("msmarco-doctrain-qrels.tsv",)),
        ("test", ("msmarco-docdev-queries.tsv",), ("msmarco-docdev-qrels.tsv",)),
    )
    sizes = {"documents": (300_000, 340_000), "train": 367_013, "test": 5_193}  # noqa: RUF012

    def selected_documents(self, pairs: list[tuple[str, str, str, str]]) -> set[str]:
        """Returns the documents relevant to a query."""
        return {doc_id for _, _, doc_id, _ in pairs}
