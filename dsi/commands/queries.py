"""`dsi queries`: pseudo-queries for the documents of a dataset."""

from __future__ import annotations

import dataclasses
import os
from itertools import islice
from pathlib import Path

from data_prep.generators.extractive import ExtractiveOptions
from data_prep.generators.selective import SelectiveOptions
from dsi.report import Report, TableReport

SAMPLES = 3
_EXTRACTIVE = ExtractiveOptions()
_SELECTIVE = SelectiveOptions()


def queries(
    dataset: Path,
    *,
    generator: str = "extractive",
    per_doc: int | None = None,
    seed: int | None = None,
    extractive: ExtractiveOptions = _EXTRACTIVE,
    selective: SelectiveOptions = _SELECTIVE,
) -> Report:
    """Gives every document of a dataset pseudo-queries to learn from.

    Generators: extractive (keywords, spans and sentences of the document; needs nothing) and
    selective (learns from the labelled training queries which words users choose, and how they
    ask). The same options and seed give the same queries. Running it again continues after an
    interruption, and does nothing when there is nothing left to do. Under torchrun the
    processes share the work.

    Args:
        dataset: The folder of the dataset.
        generator: extractive or selective.
        per_doc: Pseudo-queries per document; overrides that of the generator's options.
        seed: Of everything drawn at random; overrides that of the generator's options.
        extractive: Options of the generator extractive.
        selective: Options of the generator selective.
    """
    from data_prep import arrow
    from data_prep.dataset import Dataset
    from data_prep.generate import generate_queries
    from data_prep.generators import GENERATORS

    needed = GENERATORS[generator].options_class
    options = next((given for given in (extractive, selective) if type(given) is needed), needed())
    said = {"per_doc": per_doc, "seed": seed}
    options = dataclasses.replace(
        options, **{name: value for name, value in said.items() if value is not None}
    )
    opened = Dataset.open(dataset)
    outcome = generate_queries(
        opened,
        generator,
        options,
        rank=int(os.environ.get("RANK", "0")),
        world=int(os.environ.get("WORLD_SIZE", "1")),
    )
    samples: list[tuple[str, str]] = []
    if outcome.complete:
        samples = list(islice(arrow.read_rows(outcome.folder, ["doc_id", "text"]), SAMPLES))
    rows: list[tuple[str, object]] = [
        ("documents", opened.info.documents),
        ("pseudo-queries", outcome.queries if outcome.complete else None),
        ("shards written now", outcome.written),
        ("shards in all", outcome.shards),
        *dataclasses.asdict(options).items(),
    ]
    status = "" if outcome.complete else "Other processes are still at work on their shards."
    return TableReport(
        data={
            "dataset": str(dataset),
            "generator": generator,
            "options": dataclasses.asdict(options),
            "documents": opened.info.documents,
            "queries": outcome.queries,
            "complete": outcome.complete,
            "shards": outcome.shards,
            "written": outcome.written,
            "folder": str(outcome.folder),
            "samples": [{"doc_id": doc_id, "text": text} for doc_id, text in samples],
        },
        title=f"{generator} pseudo-queries of {opened.info.name}",
        columns=("", ""),
        rows=rows,
        closing=[
            *(f"for {doc_id}: {text}" for doc_id, text in samples),
            *([status] if status else []),
        ],
    )
