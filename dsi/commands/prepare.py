"""`dsi prepare`: converts any source to a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from data_prep.errors import InputError, command_line
from data_prep.marks import Advanced, Rate, Seed
from data_prep.passages import PassageOptions
from data_prep.sources.base import SourceOptions
from dsi.command_line.arguments import SPREAD
from dsi.command_line.command_report import Report, TableReport

if TYPE_CHECKING:
    from data_prep.dataset import Dataset, ExampleCounter, SourceData
    from data_prep.sources import Source

_OPTIONS = SourceOptions()
_PASSAGES = PassageOptions()
SAMPLES = 3
_SAMPLE_WIDTH = 100
_SAMPLE_TEXT = 1_000
"""Characters of the text of a document in the output for programs."""


def prepare(
    source: str,
    *,
    out: Path,
    name: str | None = None,
    license: Advanced[str | None] = None,
    options: Annotated[SourceOptions, SPREAD] = _OPTIONS,
    passages: Annotated[PassageOptions, SPREAD] = _PASSAGES,
    dev_fraction: Rate = 0.0,
    test_fraction: Rate = 0.0,
    seed: Advanced[Seed] = 0,
    drop_duplicate_texts: Advanced[bool] = False,
    dry_run: bool = False,
) -> Report:
    """Converts a collection of documents and queries to a dataset.

    SOURCE is a folder of text, Markdown and HTML files; a JSONL, JSON, CSV, TSV or Parquet file
    with one document per record, or a table of an SQLite database; a BEIR folder (corpus.jsonl,
    queries.jsonl, qrels/*.tsv); TREC documents (.trec, .sgml, or trec:FILE_OR_FOLDER);
    ir_datasets:ID; hf:ID_OR_PATH for a Hugging Face dataset; beir:NAME; mteb:NAME; the name of a
    benchmark with a recipe (nq320k, nq320k-dsi, nq10k, nq100k, msmarco-100k, msmarco-1m,
    msmarco-passage, msmarco-300k, triviaqa, hover); docstrings, the documentation of the Python
    packages on this machine; or - for standard input. Text files may be compressed (.gz, .bz2, .xz,
    .zst).

    Args:
        source: Source of the documents; see above.
        out: Dataset folder. A dataset that is already there is replaced, unless its content
            differs and a model wrote pseudo-queries for it or was trained on it.
        name: Name of the collection; default: that of the source.
        license: License of the content, to store with it.
        options: Column names and further files.
        passages: Length of passages.
        dev_fraction: Fraction of the training queries to hold out as dev.
        test_fraction: Fraction of the training queries to hold out as test.
        seed: Random seed of the held-out split.
        drop_duplicate_texts: Drop documents with the title and text of an earlier one, and give
            their judgments to the earlier one.
        dry_run: Print what the source is and what it downloads, and stop.
    """
    from data_prep.dataset_writer import refuse_other_content, write_dataset
    from data_prep.passages import PassageSource
    from data_prep.progress import note
    from data_prep.sources import detect
    from data_prep.splits import SplitSource

    if passages.passages is not None and drop_duplicate_texts:
        raise InputError(
            "--drop-duplicate-texts would compare passages, not documents",
            hint="Omit it, or --passages",
        )
    refuse_other_content(out)
    found = detect(source, options)
    if dry_run:
        return _planned(found)
    if found.download is not None:
        note(f"downloading {found.download}")
    opened: SourceData = found
    opened.name = name if name is not None else opened.name
    opened.license = license if license is not None else opened.license
    opened.drop_duplicate_texts = opened.drop_duplicate_texts or drop_duplicate_texts
    if dev_fraction or test_fraction:
        opened = SplitSource(
            opened, dev_fraction=dev_fraction, test_fraction=test_fraction, seed=seed
        )
    if passages.passages is not None:
        opened = PassageSource(opened, passages)
    return report_of(write_dataset(out, opened))


def report_of(dataset: Dataset) -> Report:
    """Keeps the card of a dataset, and returns it with what was omitted and a few samples."""
    from data_prep.dataset_statistics import card_rows, write_card

    info = dataset.info
    card = write_card(dataset)
    documents = list(islice(dataset.documents(), SAMPLES))
    queries = list(islice(dataset.query_texts().items(), SAMPLES))
    closing = [
        *(f"WARNING: {warning}" for warning in card.warnings),
        *counter_lines("left out", info.dropped),
        *counter_lines("note", info.noted),
        *(
            ["note: without judgments, the queries have no effect; use --train-qrels or others"]
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
            "card": asdict(card),
            "samples": {
                "documents": [
                    {**asdict(document), "text": document.text[:_SAMPLE_TEXT]}
                    for document in documents
                ],
                "queries": [{"query_id": key, "text": text} for key, text in queries],
            },
        },
        title=f"{dataset.path}: {info.name}",
        columns=("", ""),
        rows=card_rows(dataset, card),
        closing=closing,
    )


def _planned(source: Source) -> Report:
    """Returns a report on a source that has not been read."""
    download = source.download
    rows: list[tuple[str, object]] = [("source", source.source), ("read as", source.form)]
    rows.append(("license", source.license))
    if download is not None:
        rows += [
            ("downloads", download.what),
            ("size", download.amount),
            ("without a network", download.otherwise),
        ]
    return TableReport(
        data={
            "source": source.source,
            "form": source.form,
            "license": source.license,
            "download": None if download is None else asdict(download),
        },
        title="dry run",
        columns=("", ""),
        rows=rows,
    )


def counter_lines(kind: str, counters: Mapping[str, ExampleCounter]) -> list[str]:
    """Returns one line per reason for omitted or noted records, with examples."""
    return [
        _short(f"{kind}: {counter.count:,} x {reason}: {', '.join(counter.examples)}")
        for reason, counter in counters.items()
    ]


def _short(line: str) -> str:
    line = " ".join(line.split())
    return line if len(line) <= _SAMPLE_WIDTH else f"{line[: _SAMPLE_WIDTH - 3]}..."
