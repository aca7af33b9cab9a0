"""`dsi prepare`: any source into a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.errors import command_line
from data_prep.marks import Advanced
from dsi.report import Report, TableReport

if TYPE_CHECKING:
    from data_prep.dataset import Dataset, ExampleCounter, SourceData

SAMPLES = 3
_SAMPLE_WIDTH = 100


def prepare(
    source: str,
    *,
    out: Path,
    name: str | None = None,
    licence: Advanced[str | None] = None,
    id_column: str | None = None,
    title_column: str | None = None,
    text_column: str | None = None,
    url_column: Advanced[str | None] = None,
    number_lines: Advanced[bool] = False,
    header: Advanced[list[str] | None] = None,
    encoding: Advanced[str] = "utf-8",
    queries: str | None = None,
    train_qrels: str | None = None,
    dev_qrels: str | None = None,
    test_qrels: str | None = None,
    query_id_column: Advanced[str | None] = None,
    query_text_column: Advanced[str | None] = None,
    qrels_query_column: Advanced[str | None] = None,
    qrels_doc_column: Advanced[str | None] = None,
    qrels_relevance_column: Advanced[str | None] = None,
    topic_field: Advanced[str] = "title",
    subset: Advanced[str | None] = None,
    documents_split: Advanced[str | None] = None,
    release: Advanced[Path | None] = None,
    any_size: Advanced[bool] = False,
    dev_share: float = 0.0,
    test_share: float = 0.0,
    seed: Advanced[int] = 0,
    drop_duplicate_texts: Advanced[bool] = False,
) -> Report:
    """Turns a collection of documents, with or without queries, into a dataset.

    SOURCE is a BEIR folder (corpus.jsonl, queries.jsonl, qrels/*.tsv); a JSONL, CSV or TSV file
    with one document per record; TREC documents (.trec, .sgml, or trec:FILE_OR_FOLDER);
    ir_datasets:ID; hf:ID_OR_PATH for a Hugging Face dataset; beir:NAME; mteb:NAME; the name of a
    benchmark with a recipe (nq320k, nq320k-dsi, nq10k, nq100k, msmarco-100k, msmarco-1m,
    msmarco-passage, msmarco-300k, triviaqa); or docstrings, the documentation of the Python
    packages on this machine. Text files may be gzipped.

    Args:
        source: Where the documents are.
        out: Dataset folder. A dataset that is already there is replaced, unless its content
            differs and a model wrote pseudo-queries for it or was trained on it.
        name: Name of the collection; default: that of the source.
        licence: License of the content, to store with it.
        id_column: Column of the document id; default: id, _id, doc_id, docid, docno or pid.
        title_column: Column of the title; default: title or headline, if present.
        text_column: Column of the text; default: text, body, contents, content, passage or
            document.
        url_column: Column of the URL; default: url or link, if present.
        number_lines: Use line numbers, from 1, as document ids.
        header: Column names of a CSV or TSV file without a header line, such as id,text.
        encoding: Encoding of the text files.
        queries: File of labelled queries: JSONL, CSV, TSV (`id<tab>text`) or TREC topics.
        train_qrels: Relevance judgments to train on: TREC qrels, TSV, CSV or JSONL.
        dev_qrels: Relevance judgments to tune on.
        test_qrels: Relevance judgments to report.
        query_id_column: Column of the query id in the query file.
        query_text_column: Column of the query text in the query file.
        qrels_query_column: Column of the query id in the judgments.
        qrels_doc_column: Column of the document id in the judgments.
        qrels_relevance_column: Column of the relevance in the judgments; default: all are relevant.
        topic_field: Field of a TREC topic to use as query: title, desc or narr.
        subset: Configuration of a Hugging Face dataset.
        documents_split: Split of a Hugging Face dataset with the documents, if there are several.
        release: Folder of the public release of a named benchmark; default: download it.
        any_size: Accept a named benchmark whose size differs from its recipe.
        dev_share: Share of the training queries to hold out as dev.
        test_share: Share of the training queries to hold out as test.
        seed: Random seed of the held-out split.
        drop_duplicate_texts: Drop documents with the title and text of an earlier one, and give
            their judgments to the earlier one.
    """
    from data_prep.dataset import refuse_other_content, write_dataset
    from data_prep.sources import SourceOptions, detect
    from data_prep.splits import SplitSource

    options = SourceOptions(
        id_column=id_column,
        title_column=title_column,
        text_column=text_column,
        url_column=url_column,
        number_lines=number_lines,
        header=tuple(header) if header is not None else None,
        encoding=encoding,
        queries=queries,
        train_qrels=train_qrels,
        dev_qrels=dev_qrels,
        test_qrels=test_qrels,
        query_id_column=query_id_column,
        query_text_column=query_text_column,
        qrels_query_column=qrels_query_column,
        qrels_doc_column=qrels_doc_column,
        qrels_relevance_column=qrels_relevance_column,
        topic_field=topic_field,
        subset=subset,
        documents_split=documents_split,
        release=None if release is None else str(release),
        any_size=any_size,
    )
    refuse_other_content(out)
    opened: SourceData = detect(source, options)
    opened.name = name if name is not None else opened.name
    opened.licence = licence if licence is not None else opened.licence
    opened.drop_duplicate_texts = opened.drop_duplicate_texts or drop_duplicate_texts
    if dev_share or test_share:
        opened = SplitSource(opened, dev_share=dev_share, test_share=test_share, seed=seed)
    return report_of(write_dataset(out, opened))


def report_of(dataset: Dataset) -> Report:
    """Returns what a dataset holds: counts, what was left out and why, and a few samples."""
    info = dataset.info
    documents = list(islice(dataset.documents(), SAMPLES))
    queries = list(islice(dataset.query_texts().items(), SAMPLES))
    rows: list[tuple[str, object]] = [
        ("documents", info.documents),
        ("queries", info.queries),
        *((f"judgements ({split})", count) for split, count in info.qrels.items()),
        ("source", info.source),
        ("licence", info.licence),
        ("content hash", info.content_hash[:16]),
    ]
    closing = [
        *told("left out", info.dropped),
        *told("note", info.noted),
        *(
            ["note: queries without judgements, which nothing reads: give --train-qrels or others"]
            if info.queries and not info.qrels
            else []
        ),
        *(_short(f"document {d.doc_id}: {d.title} | {d.text}") for d in documents),
        *(_short(f"query {query_id}: {text}") for query_id, text in queries),
        f"next: {command_line('train', dataset.path, '--out', 'INDEX')}",
    ]
    return TableReport(
        data={
            "dataset": str(dataset.path),
            **asdict(info),
            "samples": {
                "documents": [asdict(document) for document in documents],
                "queries": [{"query_id": key, "text": text} for key, text in queries],
            },
        },
        title=f"{dataset.path}: {info.name}",
        columns=("", ""),
        rows=rows,
        closing=closing,
    )


def told(kind: str, counters: Mapping[str, ExampleCounter]) -> list[str]:
    """Returns a line for each reason why something was left out or noted, with examples."""
    return [
        _short(f"{kind}: {counter.count:,} x {reason}: {', '.join(counter.examples)}")
        for reason, counter in counters.items()
    ]


def _short(line: str) -> str:
    line = " ".join(line.split())
    return line if len(line) <= _SAMPLE_WIDTH else f"{line[: _SAMPLE_WIDTH - 3]}..."
