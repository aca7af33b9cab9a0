"""Writes a dataset from a source: checks ids, queries and judgments, and counts what it drops."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep import arrow
from data_prep.errors import InputError
from data_prep.files import (
    recover,
    refuse_irreplaceable,
    replacing_named_folder,
    without_leftovers,
    write_json,
)
from data_prep.progress import track

if TYPE_CHECKING:
    pass
from data_prep.dataset import (
    CORPUS_COLUMNS,
    KEPT,
    MADE_AGAIN,
    MOST_UNKNOWN,
    OPTIONAL_COLUMNS,
    PARTS,
    QREL_COLUMNS,
    QUERY_COLUMNS,
    SPLITS,
    Dataset,
    DatasetInfo,
    ExampleCounter,
    Qrel,
    SourceData,
)


class _PartWriter:
    """A table of a Dataset being written, with the hash of its rows; errors name the source."""

    def __init__(self, folder: Path, columns: dict[str, str], source: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.source = source
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
                where=self.source,
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
    text, repeated queries and judgments, and judgments of dropped or unknown queries and
    documents. Queries without a judgment are kept and counted in `info.noted`.

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
            value has the wrong type; there is no document; more than a fifth of the judgments
            name an unknown query or document; or the content differs from that of an existing
            Dataset from which a model learned or for which one wrote pseudo-queries.
    """
    path = Path(path)
    refuse_other_content(path)
    passages = getattr(source, "passages", None)
    dropped: dict[str, ExampleCounter] = {}
    noted: dict[str, ExampleCounter] = {}
    with replacing_named_folder(path, PARTS.__contains__) as fresh:
        with _PartWriter(fresh / "corpus", CORPUS_COLUMNS, source.source) as corpus:
            doc_ids, instead = _write_documents(corpus, source, dropped)
        dropped.update(getattr(source, "passed_over", {}))
        noted.update(getattr(source, "noted", {}))
        with _PartWriter(fresh / "queries", QUERY_COLUMNS, source.source) as queries:
            query_ids = _write_queries(queries, source, dropped)
        with _PartWriter(fresh / "qrels", QREL_COLUMNS, source.source) as qrels:
            counts = _write_qrels(qrels, source, query_ids, doc_ids, instead, dropped, noted)
        digests = "".join(part.hash.hexdigest() for part in (corpus, queries, qrels))
        info = DatasetInfo(
            name=source.name,
            source=source.source,
            license=source.license,
            documents=corpus.file.rows,
            queries=queries.file.rows,
            qrels=counts,
            content_hash=hashlib.sha256(digests.encode()).hexdigest(),
            dropped=dropped,
            noted=noted,
            passages=passages.to_json() if passages is not None else None,
        )
        write_json(fresh / "dataset.json", info.to_json())
        for name in _artifacts_of(path, info.content_hash):
            shutil.copytree(path / name, fresh / name, ignore=without_leftovers)
    return Dataset(path, info)


def _artifacts_of(path: Path, content_hash: str) -> list[str]:
    """Returns the artifacts of an existing Dataset that were made from content of this hash.

    Raises:
        InputError: A model made them from other content.
    """
    for name in KEPT:
        recover(path / name)
    artifacts = [name for name in KEPT if (path / name).is_dir()]
    if not artifacts or Dataset.open(path).info.content_hash == content_hash:
        return artifacts
    expensive = [folder for folder in path.glob("pseudo/[!.]*") if folder.name not in MADE_AGAIN]
    expensive += path.glob("memory")
    if expensive:
        raise InputError(
            "this folder has a dataset with different content, and what was generated from it "
            "would be lost",
            where=path,
            hint=f"Choose another --out, or remove {' and '.join(map(str, sorted(expensive)))}",
        )
    return []


def refuse_other_content(path: Path) -> None:
    """Raises InputError if `path` is a file or holds something other than a Dataset."""
    if path.is_dir() and any(path.iterdir()) and not (path / "dataset.json").is_file():
        raise InputError(
            "this folder holds files that are not a dataset",
            where=path,
            hint="Choose another --out; this folder was not changed",
        )
    if path.exists() and not path.is_dir():
        raise InputError("this is a file, not a folder", where=path, hint="Choose another --out")
    refuse_irreplaceable(path, PARTS.__contains__)


def _check_id(value: object, kind: str, example: object, where: str) -> None:
    if not isinstance(value, str):
        raise InputError(
            f"the {kind} id {value!r} is not a string (in {example!r:.200})", where=where
        )
    if not value.strip():
        raise InputError(f"an empty {kind} id (in {example!r:.200})", where=where)


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
        _check_id(document.doc_id, "document", document, source.source)
        fields = (document.title, document.text, document.url)
        if not all(isinstance(value, str) for value in fields):
            raise InputError(
                f"the title, text or URL of document {document.doc_id!r} is not a string"
            )
        if document.doc_id in seen:
            raise InputError(
                f"the document id {document.doc_id!r} appears twice (the second time in document "
                f"{number:,})",
                where=source.source,
                hint="Give each document a unique id",
            )
        if not document.title.strip() and not document.text.strip():
            seen[document.doc_id] = False
            dropped.setdefault("document without a title and a text", ExampleCounter()).add(
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
            "no document has a title or a text",
            where=source.source,
            hint="Check that it is the right file, and which columns or fields are read",
        )
    return seen, instead


def _write_queries(
    part: _PartWriter, source: SourceData, dropped: dict[str, ExampleCounter]
) -> dict[str, str | None]:
    """Writes the labeled queries; returns query_id -> text, None where it was dropped."""
    seen: dict[str, str | None] = {}
    for query in source.queries():
        _check_id(query.query_id, "query", query, f"queries of {source.source}")
        if not isinstance(query.text, str):
            raise InputError(f"the text of query {query.query_id!r} is not a string")
        if query.query_id in seen:
            if seen[query.query_id] not in (query.text, None):
                raise InputError(
                    f"the query id {query.query_id!r} appears twice with different texts",
                    where=f"queries of {source.source}",
                    hint="Give each query a unique id",
                )
            dropped.setdefault("repeated query", ExampleCounter()).add(query.query_id)
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
    """Writes the judgments; returns split -> how many."""
    counts: Counter[str] = Counter()
    seen: dict[tuple[str, str, str], Qrel] = {}
    unknown = ExampleCounter()
    total = 0
    splits_of: dict[str, str] = {}
    for qrel in source.qrels():
        total += 1
        _check_qrel(qrel, f"judgments of {source.source}")
        doc_id = instead.get(qrel.doc_id, qrel.doc_id)
        example = f"{qrel.query_id} {qrel.doc_id}"
        reason = None
        if qrel.query_id not in query_ids or doc_id not in doc_ids:
            missing = "query" if qrel.query_id not in query_ids else "document"
            reason = f"judgment of an unknown {missing}"
            unknown.add(example)
        elif query_ids[qrel.query_id] is None or not doc_ids[doc_id]:
            reason = "judgment of a query or document that was dropped"
        elif (qrel.query_id, doc_id, qrel.split) in seen:
            _refuse_contradiction(seen[qrel.query_id, doc_id, qrel.split], qrel, source.source)
            reason = "repeated judgment"
        if reason is not None:
            dropped.setdefault(reason, ExampleCounter()).add(example)
            continue
        seen[qrel.query_id, doc_id, qrel.split] = qrel
        if splits_of.setdefault(qrel.query_id, qrel.split) != qrel.split:
            noted.setdefault("judgment of a query in two splits (kept)", ExampleCounter()).add(
                example
            )
        counts[qrel.split] += 1
        part.append(qrel.query_id, doc_id, qrel.relevance, qrel.split)
    if unknown.count > MOST_UNKNOWN * total:
        raise InputError(
            f"{unknown.count:,} of {total:,} judgments name a query or document that does not"
            f" exist (the first: {unknown.examples[0]!r})",
            where=source.source,
            hint="Check that queries, documents and judgments use the same ids",
        )
    for query_id, text in query_ids.items():
        if text is not None and query_id not in splits_of:
            noted.setdefault("query without a judgment (kept)", ExampleCounter()).add(query_id)
    return {split: counts[split] for split in SPLITS if counts[split]}


def _refuse_contradiction(first: Qrel, again: Qrel, where: str) -> None:
    # Duplicate documents, which become one, may each have their own judgment.
    if first.doc_id == again.doc_id and first.relevance != again.relevance:
        raise InputError(
            f"the pair {again.query_id!r} {again.doc_id!r} is judged {first.relevance} and"
            f" {again.relevance} in {again.split}",
            where=where,
            hint="Keep one judgment per pair",
        )


def _check_qrel(qrel: Qrel, where: str) -> None:
    _check_id(qrel.query_id, "query", qrel, where)
    _check_id(qrel.doc_id, "document", qrel, where)
    if isinstance(qrel.relevance, bool) or not isinstance(qrel.relevance, int):
        raise InputError(
            f"the relevance {qrel.relevance!r} is not a whole number (in {qrel!r})", where=where
        )
    if not -(2**31) <= qrel.relevance < 2**31:
        raise InputError(
            f"the relevance {qrel.relevance} does not fit in 32 bits (in {qrel!r})", where=where
        )
    if qrel.split not in SPLITS:
        raise InputError(
            f"unknown split {qrel.split!r} (in {qrel!r})", hint=f"Choose from: {', '.join(SPLITS)}"
        )
