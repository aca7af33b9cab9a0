"""The Dataset: a corpus with its queries and judgements, in one folder.

    DATASET/
        dataset.json        name, source, license, counts, content hash, dropped rows and reasons
        corpus/             doc_id, title, text, url
        queries/            query_id, text, origin ("labelled")
        qrels/              query_id, doc_id, relevance, split ("train", "dev" or "test")
        pseudo/<generator>/ query_id, doc_id, text, origin (the generator), generator.json
        memory/             the generative memory, if one was trained (`dsi.generation.memory`)

The tables are Arrow; `datasets.load_from_disk` opens each of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from data_prep import arrow
from data_prep.errors import InputError, command_line
from data_prep.files import (
    read_json,
    recover,
    refuse_irreplaceable,
    replacing_named_folder,
    without_leftovers,
    write_json,
)
from data_prep.progress import track

if TYPE_CHECKING:
    import datasets

FORMAT_VERSION = 1
SPLITS = ("train", "dev", "test")
CORPUS_COLUMNS = {"doc_id": "string", "title": "string", "text": "string", "url": "string"}
QUERY_COLUMNS = {"query_id": "string", "text": "string", "origin": "string"}
QREL_COLUMNS = {"query_id": "string", "doc_id": "string", "relevance": "int32", "split": "string"}
PSEUDO_COLUMNS = {"query_id": "string", "doc_id": "string", "text": "string", "origin": "string"}

OPTIONAL_COLUMNS = ("url",)
"""Columns that a table may lack, and that are not hashed where they are empty."""

KEPT = ("pseudo", "memory", "memory.partial")
"""Artifacts of a Dataset that are kept when it is rewritten with the same content."""

TABLES = ("dataset.json", "corpus", "queries", "qrels")
"""The files and folders of a Dataset."""

PARTS = (*TABLES, *KEPT)
"""What the toolkit writes into the folder of a Dataset; other files are the user's and are kept."""

MADE_AGAIN = ("extractive", "selective")
"""Generators that need no model, so that training regenerates their pseudo-queries."""

MOST_UNKNOWN = 0.2
"""Largest fraction of judgements that may name an unknown query or document."""

EXAMPLES = 5
"""Number of examples to report for each reason why rows were dropped."""


@dataclass(frozen=True)
class Document:
    """A document; `doc_id` is the id of the source and never changes; `url` may be empty."""

    doc_id: str
    title: str
    text: str
    url: str = ""


@dataclass(frozen=True)
class Query:
    """A query; `origin` is "labelled", or the name of the generator that wrote it."""

    query_id: str
    text: str
    origin: str = "labelled"


@dataclass(frozen=True)
class Qrel:
    """One judgement: `relevance` above 0 means relevant; `split` is "train", "dev" or "test"."""

    query_id: str
    doc_id: str
    relevance: int
    split: str


class SourceData(Protocol):
    """The input of `write_dataset`; each method may be called more than once."""

    name: str
    """A short name of the collection."""
    source: str
    """Where the collection came from: a path or an identifier."""
    licence: str
    """The licence of the content, or "unknown"."""
    drop_duplicate_texts: bool
    """Whether a document with the title and text of an earlier one is dropped; its judgements
    then go to the earlier one."""

    def documents(self) -> Iterable[Document]:
        """Yields the documents, in corpus order."""
        ...

    def queries(self) -> Iterable[Query]:
        """Yields the labelled queries."""
        ...

    def qrels(self) -> Iterable[Qrel]:
        """Yields the judgements."""
        ...


@dataclass
class InMemorySource:
    """A source whose documents, queries and judgements are in memory; iterables become lists."""

    document_list: Iterable[Document]
    query_list: Iterable[Query] = ()
    qrel_list: Iterable[Qrel] = ()
    name: str = "unnamed"
    source: str = "memory"
    licence: str = "unknown"
    drop_duplicate_texts: bool = False

    def __post_init__(self) -> None:
        self.document_list = list(self.document_list)
        self.query_list = list(self.query_list)
        self.qrel_list = list(self.qrel_list)

    def documents(self) -> Iterable[Document]:
        """Returns the documents."""
        return self.document_list

    def queries(self) -> Iterable[Query]:
        """Returns the labelled queries."""
        return self.query_list

    def qrels(self) -> Iterable[Qrel]:
        """Returns the judgements."""
        return self.qrel_list


@dataclass
class ExampleCounter:
    """A count of events, with the first few examples."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        """Counts one more."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)


@dataclass(frozen=True)
class DatasetInfo:
    """The content of `dataset.json`.

    Attributes:
        name: A short name of the collection.
        source: Where the collection came from.
        licence: The license of the content, or "unknown".
        documents: Number of documents.
        queries: Number of labelled queries.
        qrels: Split -> number of judgements.
        content_hash: SHA-256 of documents, labelled queries and judgements in their order.
        dropped: Reason -> the rows that were dropped for it.
        noted: Remark -> the rows it applies to, which were kept.
        passages: How documents were cut into passages (`data_prep.passages`); None where they were
            not.
    """

    name: str
    source: str
    licence: str
    documents: int
    queries: int
    qrels: dict[str, int]
    content_hash: str
    dropped: dict[str, ExampleCounter]
    noted: dict[str, ExampleCounter]
    passages: dict[str, int] | None = None

    @property
    def origin(self) -> dict[str, Any]:
        """What an index and a memory keep of the dataset: name, content hash, passages if any."""
        kept: dict[str, Any] = {"name": self.name, "content_hash": self.content_hash}
        return kept if self.passages is None else {**kept, "passages": dict(self.passages)}

    def to_json(self) -> dict[str, Any]:
        """Returns the value that `dataset.json` holds."""
        value = {"format_version": FORMAT_VERSION, **asdict(self)}
        if self.passages is None:  # as it was before there were passages
            del value["passages"]
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any], where: Path) -> DatasetInfo:
        """Reads the value that `dataset.json` holds.

        Raises:
            InputError: Its format version is another, or a field is missing.
        """
        fields = dict(value) if isinstance(value, dict) else {}
        version = fields.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise InputError(
                f"dataset format version {version!r} where {FORMAT_VERSION} is read",
                where=where,
                hint="Prepare the dataset again with this version of dsi-toolkit",
            )
        try:
            for part in ("dropped", "noted"):
                fields[part] = {
                    name: ExampleCounter(**counter) for name, counter in fields[part].items()
                }
            return cls(**fields)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"a damaged dataset.json ({error})", where=where) from None


class Dataset:
    """An open Dataset folder; tables are read on demand.

    Args:
        path: The folder.
        info: The content of its `dataset.json`.
    """

    def __init__(self, path: Path, info: DatasetInfo) -> None:
        self.path = path
        self.info = info

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Dataset:
        """Opens the Dataset in the folder `path`; reads `dataset.json` only.

        Raises:
            InputError: The folder holds no Dataset, or one of another format version.
        """
        path = Path(path)
        if not (path / "dataset.json").is_file():
            raise InputError(
                "no dataset here" if path.is_dir() else "no such folder",
                where=path,
                hint="Make one with: dsi prepare SOURCE --out DATASET",
            )
        return cls(
            path, DatasetInfo.from_json(read_json(path / "dataset.json"), path / "dataset.json")
        )

    @cached_property
    def corpus(self) -> datasets.Dataset:
        """The documents: columns doc_id, title, text, url; memory-mapped."""
        return arrow.open_dataset(self.path / "corpus")

    @cached_property
    def queries(self) -> datasets.Dataset:
        """The labelled queries: columns query_id, text, origin; memory-mapped."""
        return arrow.open_dataset(self.path / "queries")

    @cached_property
    def qrels(self) -> datasets.Dataset:
        """The judgements: columns query_id, doc_id, relevance (int32), split; memory-mapped."""
        return arrow.open_dataset(self.path / "qrels")

    @cached_property
    def doc_ids(self) -> list[str]:
        """The document ids, in corpus order."""
        return [doc_id for (doc_id,) in arrow.read_rows(self.path / "corpus", ["doc_id"])]

    def documents(self) -> Iterator[Document]:
        """Yields the documents in corpus order, without importing `datasets`."""
        folder = self.path / "corpus"
        there = arrow.columns_of(folder)
        wanted = [name for name in CORPUS_COLUMNS if name in there or name not in OPTIONAL_COLUMNS]
        for row in arrow.read_rows(folder, wanted):
            yield Document(*row)

    def query_texts(self) -> dict[str, str]:
        """Returns the labelled queries: query_id -> text, in the order of the table."""
        return dict(arrow.read_rows(self.path / "queries", ["query_id", "text"]))

    def qrels_of(self, split: str) -> dict[str, dict[str, int]]:
        """Returns the judgements of one split: query_id -> {doc_id: relevance}.

        Args:
            split: "train", "dev" or "test"; a split without judgements gives an empty dict.

        Raises:
            InputError: There is no split of that name.
        """
        if split not in SPLITS:
            raise InputError(f"unknown split {split!r}", hint=f"Choose from: {', '.join(SPLITS)}")
        found: dict[str, dict[str, int]] = {}
        for query_id, doc_id, relevance, its_split in arrow.read_rows(
            self.path / "qrels", list(QREL_COLUMNS)
        ):
            if its_split == split:
                found.setdefault(query_id, {})[doc_id] = relevance
        return found

    @property
    def generators(self) -> list[str]:
        """The names of the generators whose pseudo-queries are complete, sorted."""
        return sorted(file.parent.name for file in self.path.glob("pseudo/*/generator.json"))

    def pseudo_queries(self, generator: str | None = None) -> datasets.Dataset:
        """Returns pseudo-queries: columns query_id, doc_id, text, origin; memory-mapped.

        Args:
            generator: The generator that wrote them; None for all generators. The table is
                empty when there is none.

        Raises:
            InputError: That generator has not been run.
        """
        import datasets

        if generator is not None and generator not in self.generators:
            raise InputError(
                f"no pseudo-queries of the generator {generator!r}",
                where=self.path,
                hint="Make them with: "
                + command_line("queries", self.path, "--generator", generator),
            )
        names = self.generators if generator is None else [generator]
        if not names:
            return datasets.Dataset.from_dict(
                {name: [] for name in PSEUDO_COLUMNS},
                features=datasets.Features(
                    {name: datasets.Value(kind) for name, kind in PSEUDO_COLUMNS.items()}
                ),
            )
        return datasets.concatenate_datasets(
            [arrow.open_dataset(self.path / "pseudo" / name) for name in names]
        )


class _PartWriter:
    """A table of a Dataset being written, with the hash of its rows."""

    def __init__(self, folder: Path, columns: dict[str, str]) -> None:
        folder.mkdir()
        self.folder = folder
        self.columns = columns
        self.hash = hashlib.sha256()
        self.file = arrow.TableFile(folder / "data.arrow", columns)

    def append(self, *row: str | int) -> None:
        hashed = [
            value
            for value, name in zip(row, self.columns, strict=True)
            if value or name not in OPTIONAL_COLUMNS
        ]
        try:
            self.hash.update(json.dumps(hashed, ensure_ascii=False).encode("utf-8") + b"\n")
        except UnicodeEncodeError:
            raise InputError(
                f"the text of {row[0]!a} contains an unpaired surrogate, which is not a character",
                hint="Write the source file as valid UTF-8",
            ) from None
        self.file.append(row)

    def __enter__(self) -> _PartWriter:
        return self

    def __exit__(self, *outcome: Any) -> None:
        self.file.__exit__(*outcome)
        if outcome[0] is None:
            fingerprint = self.hash.hexdigest()[:16]
            arrow.describe_table(self.folder, ["data.arrow"], self.columns, fingerprint)


def write_dataset(path: str | os.PathLike[str], source: SourceData) -> Dataset:
    """Validates a source and writes it as a Dataset folder, atomically.

    Dropped, and counted with examples in `info.dropped`: documents without title and text,
    documents that repeat the text of an earlier one (if the source asks for it), queries without
    text, repeated queries and judgements, and judgements of dropped or unknown queries and
    documents. Queries without a judgement are kept and counted in `info.noted`.

    An existing Dataset is replaced; other files in the folder are kept. Its pseudo-queries and
    generative memory are kept if the content is the same. If it differs, artifacts that a model
    produced are not deleted, and the call fails.

    Args:
        path: The folder to write.
        source: The source; documents are read one at a time and not held in memory.

    Returns:
        The open Dataset.

    Raises:
        InputError: `path` holds something other than a Dataset; an id is empty or repeated; a
            value has the wrong type; there is no document; more than a fifth of the judgements
            name an unknown query or document; or the content differs from that of an existing
            Dataset from which a model learned or for which one wrote pseudo-queries.
    """
    path = Path(path)
    refuse_other_content(path)
    passages = getattr(source, "passages", None)
    dropped: dict[str, ExampleCounter] = {}
    noted: dict[str, ExampleCounter] = {}
    with replacing_named_folder(path, PARTS.__contains__) as fresh:
        with _PartWriter(fresh / "corpus", CORPUS_COLUMNS) as corpus:
            doc_ids, instead = _write_documents(corpus, source, dropped)
        dropped.update(getattr(source, "passed_over", {}))
        noted.update(getattr(source, "noted", {}))
        with _PartWriter(fresh / "queries", QUERY_COLUMNS) as queries:
            query_ids = _write_queries(queries, source, dropped)
        with _PartWriter(fresh / "qrels", QREL_COLUMNS) as qrels:
            counts = _write_qrels(qrels, source, query_ids, doc_ids, instead, dropped, noted)
        digests = "".join(part.hash.hexdigest() for part in (corpus, queries, qrels))
        info = DatasetInfo(
            name=source.name,
            source=source.source,
            licence=source.licence,
            documents=corpus.file.rows,
            queries=queries.file.rows,
            qrels=counts,
            content_hash=hashlib.sha256(digests.encode()).hexdigest(),
            dropped=dropped,
            noted=noted,
            passages=passages.to_json() if passages is not None else None,
        )
        write_json(fresh / "dataset.json", info.to_json())
        for name in _made_of(path, info.content_hash):
            shutil.copytree(path / name, fresh / name, ignore=without_leftovers)
    return Dataset(path, info)


def _made_of(path: Path, content_hash: str) -> list[str]:
    """Returns the artifacts of an existing Dataset that were made from content of this hash.

    Raises:
        InputError: A model made them from other content.
    """
    for name in KEPT:
        recover(path / name)
    made = [name for name in KEPT if (path / name).is_dir()]
    if not made or Dataset.open(path).info.content_hash == content_hash:
        return made
    expensive = [folder for folder in path.glob("pseudo/[!.]*") if folder.name not in MADE_AGAIN]
    expensive += path.glob("memory")
    if expensive:
        raise InputError(
            "a dataset with other content is here, and what was generated from it would be lost",
            where=path,
            hint=f"Choose another --out, or remove {' and '.join(map(str, sorted(expensive)))}",
        )
    return []


def refuse_other_content(path: Path) -> None:
    """Raises InputError if `path` is a file or holds something other than a Dataset."""
    if path.is_dir() and any(path.iterdir()) and not (path / "dataset.json").is_file():
        raise InputError(
            "this folder holds something that is not a dataset",
            where=path,
            hint="Choose another --out; this one is left as it is",
        )
    if path.exists() and not path.is_dir():
        raise InputError("this is a file, not a folder", where=path, hint="Choose another --out")
    refuse_irreplaceable(path, PARTS.__contains__)


def _check_id(value: object, kind: str, example: object) -> None:
    if not isinstance(value, str):
        raise InputError(f"the {kind} id {value!r} is not a string (in {example!r:.200})")
    if not value.strip():
        raise InputError(f"an empty {kind} id (in {example!r:.200})")


def _write_documents(
    part: _PartWriter, source: SourceData, dropped: dict[str, ExampleCounter]
) -> tuple[dict[str, bool], dict[str, str]]:
    """Writes the corpus.

    Returns:
        doc_id -> whether the document was kept; and id of a dropped duplicate -> id of the document
        that was kept.
    """
    seen: dict[str, bool] = {}
    texts: dict[bytes, str] = {}
    instead: dict[str, str] = {}
    for number, document in enumerate(track(source.documents(), "documents"), 1):
        _check_id(document.doc_id, "document", document)
        said = (document.title, document.text, document.url)
        if not all(isinstance(value, str) for value in said):
            raise InputError(
                f"the title, text or URL of document {document.doc_id!r} is not a string"
            )
        if document.doc_id in seen:
            raise InputError(
                f"the document id {document.doc_id!r} appears twice, again in document {number:,}",
                where=source.source,
                hint="Give each document its own id",
            )
        if not document.title.strip() and not document.text.strip():
            seen[document.doc_id] = False
            dropped.setdefault("document without title and text", ExampleCounter()).add(
                document.doc_id
            )
            continue
        if source.drop_duplicate_texts:
            key = hashlib.blake2b(
                json.dumps([document.title, document.text]).encode(), digest_size=16
            ).digest()
            first = texts.setdefault(key, document.doc_id)
            if first != document.doc_id:
                seen[document.doc_id] = False
                instead[document.doc_id] = first
                dropped.setdefault(
                    "document with the text of an earlier one", ExampleCounter()
                ).add(document.doc_id)
                continue
        seen[document.doc_id] = True
        part.append(document.doc_id, document.title, document.text, document.url)
    if not part.file.rows:
        raise InputError(
            "no document with a title or a text",
            where=source.source,
            hint="Check that it is the right file, and which columns or fields are read",
        )
    return seen, instead


def _write_queries(
    part: _PartWriter, source: SourceData, dropped: dict[str, ExampleCounter]
) -> dict[str, str | None]:
    """Writes the labelled queries; returns query_id -> text, None where it was dropped."""
    seen: dict[str, str | None] = {}
    for query in source.queries():
        _check_id(query.query_id, "query", query)
        if not isinstance(query.text, str):
            raise InputError(f"the text of query {query.query_id!r} is not a string")
        if query.query_id in seen:
            if seen[query.query_id] not in (query.text, None):
                raise InputError(
                    f"the query id {query.query_id!r} appears twice with different texts",
                    where=source.source,
                    hint="Give each query its own id",
                )
            dropped.setdefault("query that appears again", ExampleCounter()).add(query.query_id)
        elif not query.text.strip():
            seen[query.query_id] = None
            dropped.setdefault("query without text", ExampleCounter()).add(query.query_id)
        else:
            seen[query.query_id] = query.text
            part.append(query.query_id, query.text, query.origin)
    return seen


def _write_qrels(
    part: _PartWriter,
    source: SourceData,
    query_ids: dict[str, str | None],
    doc_ids: dict[str, bool],
    instead: dict[str, str],
    dropped: dict[str, ExampleCounter],
    noted: dict[str, ExampleCounter],
) -> dict[str, int]:
    """Writes the judgements; returns split -> how many."""
    counts: Counter[str] = Counter()
    seen: dict[tuple[str, str, str], Qrel] = {}
    unknown = ExampleCounter()
    total = 0
    splits_of: dict[str, str] = {}
    for qrel in source.qrels():
        total += 1
        _check_qrel(qrel)
        doc_id = instead.get(qrel.doc_id, qrel.doc_id)
        example = f"{qrel.query_id} {qrel.doc_id}"
        reason = None
        if qrel.query_id not in query_ids or doc_id not in doc_ids:
            missing = "query" if qrel.query_id not in query_ids else "document"
            reason = f"judgement of an unknown {missing}"
            unknown.add(example)
        elif query_ids[qrel.query_id] is None or not doc_ids[doc_id]:
            reason = "judgement of a query or document that was dropped"
        elif (qrel.query_id, doc_id, qrel.split) in seen:
            _refuse_contradiction(seen[qrel.query_id, doc_id, qrel.split], qrel, source.source)
            reason = "judgement that appears again"
        if reason is not None:
            dropped.setdefault(reason, ExampleCounter()).add(example)
            continue
        seen[qrel.query_id, doc_id, qrel.split] = qrel
        if splits_of.setdefault(qrel.query_id, qrel.split) != qrel.split:
            noted.setdefault(
                "judgement of a query that is in two splits (kept)", ExampleCounter()
            ).add(example)
        counts[qrel.split] += 1
        part.append(qrel.query_id, doc_id, qrel.relevance, qrel.split)
    if unknown.count > MOST_UNKNOWN * total:
        raise InputError(
            f"{unknown.count:,} of {total:,} judgements name a query or document that does not"
            f" exist (the first: {unknown.examples[0]!r})",
            where=source.source,
            hint="Check that queries, documents and judgements use the same ids",
        )
    for query_id, text in query_ids.items():
        if text is not None and query_id not in splits_of:
            noted.setdefault("query without a judgement (kept)", ExampleCounter()).add(query_id)
    return {split: counts[split] for split in SPLITS if counts[split]}


def _refuse_contradiction(first: Qrel, again: Qrel, where: str) -> None:
    # Duplicate documents, which become one, may each have their own judgement.
    if first.doc_id == again.doc_id and first.relevance != again.relevance:
        raise InputError(
            f"the pair {again.query_id!r} {again.doc_id!r} is judged {first.relevance} and"
            f" {again.relevance} in {again.split}",
            where=where,
            hint="Keep one judgement of each pair",
        )


def _check_qrel(qrel: Qrel) -> None:
    _check_id(qrel.query_id, "query", qrel)
    _check_id(qrel.doc_id, "document", qrel)
    if isinstance(qrel.relevance, bool) or not isinstance(qrel.relevance, int):
        raise InputError(f"the relevance {qrel.relevance!r} is not a whole number (in {qrel!r})")
    if not -(2**31) <= qrel.relevance < 2**31:
        raise InputError(f"the relevance {qrel.relevance} does not fit in 32 bits (in {qrel!r})")
    if qrel.split not in SPLITS:
        raise InputError(
            f"unknown split {qrel.split!r} (in {qrel!r})", hint=f"Choose from: {', '.join(SPLITS)}"
        )
