"""`dsi queries`: generates pseudo-queries for the documents of a dataset."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from data_prep.errors import InputError
from data_prep.generators import GENERATORS
from data_prep.generators.base import GeneratorOptions
from data_prep.generators.extractive import ExtractiveOptions
from data_prep.generators.selective import SelectiveOptions
from data_prep.marks import Advanced, Count, Names, Seed, Whole
from data_prep.round_trip import FilterOptions
from dsi.command_line.command_report import Report, TableReport, heading
from dsi.generation.generative_memory import train_memory
from dsi.generation.generative_memory_options import MemoryOptions
from dsi.generation.seq2seq import Seq2SeqOptions

if TYPE_CHECKING:
    from data_prep.dataset import Dataset
    from data_prep.generate import DocumentCounts, GenerationOutcome

GeneratorName = Annotated[str | None, Names(lambda: GENERATORS)]
SAMPLES = 3
LARGE = 1_000_000
"""Above this number of documents, the round trip is measured only on request."""
_EXTRACTIVE = ExtractiveOptions()
_SELECTIVE = SelectiveOptions()
_SEQ2SEQ = Seq2SeqOptions()
_MEMORY = MemoryOptions()
_FILTER = FilterOptions()


def queries(
    dataset: Path,
    *,
    generator: GeneratorName = None,
    train_generator: bool = False,
    per_doc: Count | None = None,
    seed: Seed | None = None,
    extractive: ExtractiveOptions = _EXTRACTIVE,
    selective: SelectiveOptions = _SELECTIVE,
    seq2seq: Seq2SeqOptions = _SEQ2SEQ,
    memory: MemoryOptions = _MEMORY,
    filter: FilterOptions = _FILTER,
    round_trip: Advanced[Whole | None] = None,
) -> Report:
    """Generates pseudo-queries for the documents of a dataset.

    Generators: extractive (keywords, spans and sentences of the document), selective (learns from
    labeled training queries which words users choose), seq2seq (any transformers model, such as
    docT5query) and memory (a model that --train_generator trains on labeled training queries).
    The same options and seed give the same queries. If interrupted, run it again to resume. Under
    torchrun the processes share the work.

    Args:
        dataset: Dataset folder.
        generator: Pseudo-query generator; default: extractive, or memory with --train_generator.
        train_generator: Train the generative memory first, unless it exists.
        per_doc: Pseudo-queries per document.
        seed: Random seed.
        extractive: Generator extractive.
        selective: Generator selective.
        seq2seq: Generator seq2seq.
        memory: Generator memory.
        filter: Filter.
        round_trip: Pseudo-queries sampled to measure how often BM25 retrieves their document;
            default: 1000, or 0 (none) above a million documents.
    """
    from data_prep.dataset import Dataset
    from data_prep.generate import generate_queries
    from dsi.distributed.processes import Processes

    if generator is None:
        generator = "memory" if train_generator else "extractive"
    groups = {
        "extractive": extractive,
        "selective": selective,
        "seq2seq": seq2seq,
        "memory": memory,
    }
    options = _options_of(generator, groups, per_doc, seed)
    opened = Dataset.open(dataset)
    if train_generator:
        if not isinstance(options, MemoryOptions) or options.folder is not None:
            raise InputError(
                "--train_generator trains the generator 'memory'",
                hint="Omit --generator and --memory.folder, or --train_generator",
            )
        trained = options
        Processes().in_main_process(lambda: train_memory(opened, trained))
    rank = int(os.environ.get("RANK", "0"))
    outcome = generate_queries(
        opened,
        generator,
        options,
        filter,
        rank=rank,
        world=int(os.environ.get("WORLD_SIZE", "1")),
    )
    statistics = _QueryStatistics()
    if outcome.complete and rank == 0:
        statistics = _QueryStatistics.of(opened, generator, round_trip, filter.language)
    return _report(opened, generator, options, filter, outcome, statistics)


def _options_of(
    generator: str, groups: Mapping[str, GeneratorOptions], per_doc: int | None, seed: int | None
) -> GeneratorOptions:
    """Returns the options of the generator, with `per_doc` and `seed` applied.

    Raises:
        InputError: There is no such generator, or options of another one are given.
    """
    needed = GENERATORS[generator].options_class
    for group, values in groups.items():
        if type(values) is not needed and values != type(values)():
            raise InputError(
                f"--{group}.* has no effect with --generator {generator}",
                hint=f"Omit it, or use --generator {group}",
            )
    options = next((values for values in groups.values() if type(values) is needed), needed())
    overrides = {"per_doc": per_doc, "seed": seed}
    return dataclasses.replace(
        options, **{name: value for name, value in overrides.items() if value is not None}
    )


@dataclasses.dataclass(frozen=True)
class _QueryStatistics:
    """Statistics of the queries; empty while other processes are still running.

    Attributes:
        samples: The first few queries, each with its document.
        counts: Number of queries per document.
        round_trip: Measure -> how often BM25 retrieves the document; empty if not requested.
    """

    samples: Sequence[tuple[str, str]] = ()
    counts: DocumentCounts | None = None
    round_trip: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls, dataset: Dataset, generator: str, round_trip: int | None, language: str
    ) -> _QueryStatistics:
        """Reads all queries of a generator, and runs BM25 on a sample."""
        from data_prep import arrow
        from data_prep.generate import count_by_document
        from data_prep.round_trip import measure_round_trip

        folder = dataset.path / "pseudo" / generator
        samples = list(islice(arrow.read_rows(folder, ["doc_id", "text"]), SAMPLES))
        if round_trip is None:
            round_trip = 1000 if dataset.info.documents <= LARGE else 0
        returned: dict[str, Any] = {}
        if round_trip:
            returned = measure_round_trip(dataset, generator, sample=round_trip, language=language)
        return cls(samples, count_by_document(dataset, generator), returned)


def _report(
    dataset: Dataset,
    generator: str,
    options: GeneratorOptions,
    filter: FilterOptions,
    outcome: GenerationOutcome,
    statistics: _QueryStatistics,
) -> Report:
    counts, returned = statistics.counts, statistics.round_trip
    rows: list[tuple[str, object]] = [
        ("documents", dataset.info.documents),
        ("pseudo-queries", outcome.queries if outcome.complete else None),
    ]
    if counts is not None:
        rows += [
            ("per document: mean", counts.mean),
            ("per document: minimum (if any)", counts.fewest),
            ("per document: maximum", counts.most),
            ("documents without queries", counts.without),
        ]
    rows += [
        (f"round trip by BM25: {heading(name)}", value)
        for name, value in returned.items()
        if value is not None
    ]
    rows += [("shards written", outcome.written), ("shards in total", outcome.shards)]
    if filter:
        rows += [(f"filter: {name}", value) for name, value in asdict(filter).items()]
    rows += asdict(options).items()
    closing = [f"for {doc_id}: {text}" for doc_id, text in statistics.samples]
    if not outcome.complete:
        closing.append("Other processes are still working on their shards.")
    return TableReport(
        data={
            "dataset": str(dataset.path),
            "generator": generator,
            "options": asdict(options),
            "documents": dataset.info.documents,
            "queries": outcome.queries,
            "per_document": None if counts is None else asdict(counts),
            "round_trip": returned or None,
            "filter": asdict(filter) if filter else None,
            "complete": outcome.complete,
            "shards": outcome.shards,
            "written": outcome.written,
            "folder": str(outcome.folder),
            "samples": [{"doc_id": doc_id, "text": text} for doc_id, text in statistics.samples],
        },
        title=f"{generator} pseudo-queries of {dataset.info.name}",
        columns=("", ""),
        rows=rows,
        closing=closing,
    )
