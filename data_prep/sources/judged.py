"""Queries and judgments in separate files, in common formats."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.dataset import SPLITS, Qrel, Query
from data_prep.errors import InputError
from data_prep.sources.base import Source, SourceOptions, existing
from data_prep.sources.lines import lines
from data_prep.sources.markup import marked, plain
from data_prep.sources.records import (
    NAMING_SUFFIXES,
    TABLE_SUFFIXES,
    Column,
    as_id,
    as_relevance,
    as_text,
    find_usual,
    pick_column,
    records,
    suffix,
    with_first,
)

QUERY_ID_NAMES = ("query_id", "query-id", "_id", "id", "qid")
QUERY_TEXT_NAMES = ("text", "query", "question", "title")
QRELS_QUERY_NAMES = ("query_id", "query-id", "qid")
QRELS_DOC_NAMES = ("doc_id", "corpus-id", "corpus_id", "docid", "docno", "doc-id", "pid")
QRELS_RELEVANCE_NAMES = ("relevance", "score", "label", "rel")

_GRADES = re.compile(r"relev|rating|grade|judg|label|score|gain")
"""Names of columns whose values may be grades, in words as well."""
_FIELDS = frozenset(["num", "title", "desc", "narr", "dom", "con", "smry", "fac", "def", "head"])
_FIELD = re.compile(r"<([\w-]+)(?:\s[^<>]*)?>")
_TOPIC_LABEL = re.compile(r"^\s*(?:Number|Topic|Description|Narrative)\s*:", re.IGNORECASE)


class JudgedByFiles(Source):
    """A source that reads queries and judgments from the files in the options."""

    uses = frozenset(
        {
            "encoding",
            "queries",
            "train_qrels",
            "dev_qrels",
            "test_qrels",
            "query_id_column",
            "query_text_column",
            "qrels_query_column",
            "qrels_doc_column",
            "qrels_relevance_column",
            "topic_field",
        }
    )

    def __init__(self, argument: str, options: SourceOptions) -> None:
        super().__init__(argument, options)
        # Before the documents are read, which may take a long time.
        if options.queries is not None:
            existing(options.queries)
        for split in SPLITS:
            path = getattr(options, f"{split}_qrels")
            if path is None:
                continue
            if options.queries is None:
                raise InputError(
                    "judgments without queries",
                    where=f"--{split}-qrels {path}",
                    hint="Specify the file of the queries with --queries",
                )
            existing(path)

    def queries(self) -> Iterator[Query]:
        """Yields the queries of `--queries`, if given."""
        if self.options.queries is not None:
            yield from read_queries(Path(self.options.queries), self.options)

    def qrels(self) -> Iterator[Qrel]:
        """Yields the judgments of `--train-qrels`, `--dev-qrels` and `--test-qrels`."""
        for split in SPLITS:
            path = getattr(self.options, f"{split}_qrels")
            if path is not None:
                yield from read_qrels(Path(path), split, self.options)


def read_queries(path: Path, options: SourceOptions) -> Iterator[Query]:
    """Yields the queries of a file: JSONL, CSV, TSV (with a header or `id<tab>text`) or topics.

    Raises:
        InputError: A column is missing, or a line is malformed.
    """
    if suffix(path) in (*NAMING_SUFFIXES, ".csv"):
        yield from _queries_of_table(path, options, None)
        return
    first = next((line for _, line in lines(path, options.encoding) if line.strip()), "")
    if "\t" not in first or first.lstrip().lower().startswith("<top"):
        yield from _topics(path, options)
        return
    columns = first.rstrip("\r\n").split("\t")
    columns_given = options.query_id_column is not None or options.query_text_column is not None
    usual = find_usual(columns, QUERY_ID_NAMES) is not None
    header = None if columns_given or usual or len(columns) != 2 else ("query_id", "text")
    yield from _queries_of_table(path, options, header)


def _queries_of_table(
    path: Path, options: SourceOptions, header: tuple[str, ...] | None
) -> Iterator[Query]:
    first, rows = with_first(records(path, header=header, encoding=options.encoding))
    if not first:
        return
    id_column = pick_column(
        first,
        options.query_id_column,
        QUERY_ID_NAMES,
        what="query id",
        option="--query-id-column",
        where=path,
    )
    text_column = Column(
        options.query_text_column,
        QUERY_TEXT_NAMES,
        what="query text",
        option="--query-text-column",
        where=path,
        required=True,
        headed=suffix(path) not in NAMING_SUFFIXES,
    )
    assert id_column is not None
    for number, record in rows:
        where = f"{path}:{number}"
        yield Query(
            as_id(record, id_column, where), as_text(record, text_column.name_in(record), where)
        )
    text_column.refuse_missing()


def _topics(path: Path, options: SourceOptions) -> Iterator[Query]:
    """Yields the queries of TREC topics; closing tags of fields may be missing."""
    count = 0
    numbered = lines(path, options.encoding)
    for line, topic in marked(numbered, "top", "num", path):
        count += 1
        fields = _fields(topic, options.topic_field)
        for name in ("num", options.topic_field.lower()):
            if not fields.get(name):
                filled = [other for other, text in fields.items() if text]
                state = f"an empty field {name!r}" if name in fields else f"no field {name!r}"
                raise InputError(
                    f"topic {count} has {state}; available: {', '.join(filled) or 'none'}",
                    where=f"{path}:{line}",
                    hint="Specify the field with --topic-field" if name != "num" else None,
                )
        yield Query(fields["num"], fields[options.topic_field.lower()])
    if not count:
        raise InputError(
            "neither TREC topics (<top> ... </top>) nor lines of `id<tab>text`",
            where=path,
            hint=f"Give a file of queries as topics, or as {', '.join(TABLE_SUFFIXES)}",
        )


def _fields(topic: str, requested: str) -> dict[str, str]:
    """Returns the fields of a topic: the TREC fields and the requested one.

    Other angle brackets are part of a field's text.
    """
    names = _FIELDS | {requested.lower()}
    tags = [tag for tag in _FIELD.finditer(topic) if tag.group(1).lower() in names]
    fields: dict[str, str] = {}
    for tag, following in zip(tags, [*tags[1:], None], strict=False):
        content = topic[tag.end() : following.start() if following else len(topic)]
        content = content.partition(f"</{tag.group(1)}>")[0]
        content = _TOPIC_LABEL.sub("", plain(content))
        fields.setdefault(tag.group(1).lower(), " ".join(content.split()))
    return fields


def read_qrels(path: Path, split: str, options: SourceOptions | None = None) -> Iterator[Qrel]:
    """Yields the judgments of one file, at least one.

    The file is JSONL, CSV, TSV with a header, or lines without a header: TREC's
    `query iteration document relevance`, or `query<tab>document<tab>relevance`.

    Args:
        path: The file.
        split: The split of the judgments.
        options: Encoding and column names; defaults when None.

    Raises:
        InputError: A column is missing, a line is malformed, or there are no judgments.
    """
    count = 0
    for count, qrel in enumerate(_qrels_of_file(path, split, options or SourceOptions()), 1):  # noqa: B007
        yield qrel
    if not count:
        raise InputError(
            "the file contains no judgments", where=path, hint="Remove the file, or add judgments"
        )


def _qrels_of_file(path: Path, split: str, options: SourceOptions) -> Iterator[Qrel]:
    columns_given = any((options.qrels_query_column, options.qrels_doc_column))
    if suffix(path) in (*NAMING_SUFFIXES, ".csv") or columns_given:
        yield from _qrels_of_table(path, split, options)
        return
    first = next((line for _, line in lines(path, options.encoding) if line.strip()), "")
    columns = first.rstrip("\r\n").split("\t")
    if find_usual(columns, QRELS_QUERY_NAMES) is not None:
        yield from _qrels_of_table(path, split, options)
        return
    for number, line in lines(path, options.encoding):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        fields = line.rstrip("\r\n").split("\t")
        if len(fields) < 3:
            fields = line.split()
        if len(fields) not in (3, 4):
            raise InputError(
                f"{len(fields)} fields, but a judgment has 4 (query, iteration, document,"
                " relevance) or 3 (without iteration)",
                where=where,
            )
        yield Qrel(fields[0], fields[-2], as_relevance(fields[-1], where), split)


def _qrels_of_table(path: Path, split: str, options: SourceOptions) -> Iterator[Qrel]:
    first, rows = with_first(records(path, encoding=options.encoding))
    if not first:
        return
    query_column = pick_column(
        first,
        options.qrels_query_column,
        QRELS_QUERY_NAMES,
        what="query id",
        option="--qrels-query-column",
        where=path,
    )
    doc_column = pick_column(
        first,
        options.qrels_doc_column,
        QRELS_DOC_NAMES,
        what="document id",
        option="--qrels-doc-column",
        where=path,
    )
    relevance_column = Column(
        options.qrels_relevance_column,
        QRELS_RELEVANCE_NAMES,
        what="relevance",
        option="--qrels-relevance-column",
        where=path,
        headed=suffix(path) not in NAMING_SUFFIXES,
    )
    assert query_column is not None
    assert doc_column is not None
    for number, record in rows:
        where = f"{path}:{number}"
        column = relevance_column.name_in(record)
        if column is None:
            refuse_unnamed_relevance(record, {query_column, doc_column}, where)
        yield Qrel(
            as_id(record, query_column, where),
            as_id(record, doc_column, where),
            1 if column is None else as_relevance(record[column], where),
            split,
        )
    relevance_column.refuse_missing()


def refuse_unnamed_relevance(record: dict[str, Any], id_columns: set[str], where: str) -> None:
    """Refuses a judgment whose relevance may be in a column with an unusual name.

    Args:
        record: The judgment, in which no column has a usual name for the relevance.
        id_columns: Its columns of the query id and the document id.
        where: The file and line, for the message.

    Raises:
        InputError: Another column contains a number, or is named like a grade.
    """
    for name, value in record.items():
        if name in QRELS_RELEVANCE_NAMES and value is None:
            as_relevance(value, where)
        if name in id_columns | {"iteration", "iter"}:
            continue
        if _is_number(value) or (value is not None and _GRADES.search(name.lower())):
            raise InputError(
                f"the column {name!r:.60} may contain the relevance",
                where=where,
                hint="Specify the relevance column with --qrels-relevance-column",
            )


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
