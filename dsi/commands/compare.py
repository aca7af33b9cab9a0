"""`dsi compare`: trains and measures a grid of options."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from data_prep.descriptor_lock import only_writer
from data_prep.errors import InputError, command_line
from data_prep.files import is_leftover, read_json_lines, write_json_lines
from data_prep.marks import Advanced
from data_prep.progress import note
from dsi.command_line.arguments import SPREAD
from dsi.command_line.command_report import Report, TableReport
from dsi.commands.grid import Cell, GridArguments, cells_of
from dsi.indexing.options import TrainingOptions

if TYPE_CHECKING:
    from data_prep.dataset import Dataset
    from dsi.evaluation.comparison import Measured

_OPTIONS = TrainingOptions()
ROWS = "results.jsonl"
_OURS = ("indexes", "runs")
"""Estimated memory before the first row."""
_KEYS = frozenset(
    {"cell", "fingerprint", "content_hash", "split", "varied", "seed", "measures", "cost"}
)
"""Of each row."""


def compare(
    dataset: Path,
    *,
    out: Path,
    seeds: list[int] | None = None,
    split: Advanced[str] = "test",
    baselines: str = "bm25",
    table: list[Path] | None = None,
    per_query: Advanced[Path | None] = None,
    report: Advanced[Path | None] = None,
    dry_run: bool = False,
    device: Advanced[str | None] = None,
    variants: Advanced[dict[str, dict[str, Any]] | None] = None,
    vary: Advanced[dict[str, list[Any]] | None] = None,
    options: Annotated[TrainingOptions, SPREAD] = _OPTIONS,
) -> Report:
    """Trains and compares every combination of option values.

    Any option of dsi train may have several values, separated by commas: --docids atomic,semantic
    --sam false,true --seeds 1,2,3 makes 12 trainings. All combinations are checked before the first
    is trained. Each index is evaluated as soon as it is trained. If interrupted, run it again to
    resume.

    Args:
        dataset: Dataset folder.
        out: Folder for the indexes, runs, results.jsonl and report.html.
        seeds: Random seeds, separated by commas; default: the seed 0.
        split: Split to evaluate on: train, dev or test.
        baselines: Baselines, separated by commas, as for dsi evaluate; none.
        table: Files for the table: .md, .tex, .csv or .json, separated by commas.
        per_query: File for the values of each query: .csv or .parquet.
        report: File for the HTML page; default: report.html in the output folder.
        dry_run: Check the grid, list the trainings, and stop.
        device: Device to search on (cpu, cuda:1); default: an accelerator if there is one.
        variants: Named sets of options to compare, for options that belong together.
        vary: Options with several values, in a file or from Python.
        options: What all trainings share.
    """
    from data_prep.dataset import Dataset
    from dsi.commands.evaluate import _baseline_names, _judged
    from dsi.commands.outputs import Outputs
    from dsi.distributed.processes import refuse_several

    outputs = Outputs(table or [], per_query, report or out / "report.html")
    cells = cells_of(options, vary or {}, variants or {}, [0] if seeds is None else seeds)
    _baseline_names(baselines)
    if dry_run:
        return _planned(cells)
    refuse_several("compare", "Train the indexes with torchrun, and compare them with dsi evaluate")
    opened = Dataset.open(dataset)
    qrels = _judged(opened, split)
    with only_writer(out):
        rows = _rows(out, opened, split)
        for number, cell in enumerate(cells, 1):
            row = rows.get(cell.name)
            if row is None or row["fingerprint"] != cell.fingerprint:
                rows[cell.name] = _measured(cell, opened, split, qrels, out, device)
                write_json_lines(out / ROWS, rows.values())
            note(f"{number} of {len(cells)}: {_progress_line(rows[cell.name])}")
        systems = [_system(cell, rows[cell.name], qrels, out) for cell in cells]
        return _compared(opened, split, systems, cells, baselines, outputs)


# Its options may have several values.
compare.arguments = GridArguments  # type: ignore[attr-defined]


def _rows(out: Path, dataset: Dataset, split: str) -> dict[str, dict[str, Any]]:
    """Returns the existing results: name of the cell -> row.

    Raises:
        InputError: The results are from another dataset or split, or the folder holds other files.
    """
    rows: dict[str, dict[str, Any]] = {}
    if out.is_dir() and not (out / ROWS).is_file():
        for name in sorted(os.listdir(out)):
            if name not in _OURS and not is_leftover(name):
                raise InputError(
                    f"this folder holds other files, such as {name!r:.80}",
                    where=out,
                    hint="Choose another --out; this folder was not changed",
                )
    for row in read_json_lines(out / ROWS):
        if not isinstance(row, dict) or not _KEYS.issubset(row):
            raise InputError(
                "this is not a table of results of dsi compare",
                where=out / ROWS,
                hint="Choose another --out",
            )
        rows[row["cell"]] = row
        if (row["content_hash"], row["split"]) != (dataset.info.content_hash, split):
            raise InputError(
                "this grid was measured on another dataset or split",
                where=out / ROWS,
                hint="Choose another --out",
            )
    return rows


def _measured(
    cell: Cell,
    dataset: Dataset,
    split: str,
    qrels: dict[str, dict[str, int]],
    out: Path,
    device: str | None,
) -> dict[str, Any]:
    """Trains and evaluates an index; returns its row."""
    from dsi.commands.evaluate import search_index
    from dsi.commands.search_arguments import SearchArguments
    from dsi.distributed.processes import Processes
    from dsi.evaluation.measures import evaluate_run
    from dsi.indexing.build import train_index
    from dsi.search.runs import write_run

    index = out / "indexes" / cell.name
    began = time.monotonic()
    train_index(dataset, index, cell.options)
    seconds = time.monotonic() - began
    searched = search_index(index, dataset, qrels, SearchArguments(device=device), Processes())
    file = out / "runs" / f"{cell.name}.trec.gz"
    file.parent.mkdir(exist_ok=True)
    write_run(file, searched.run)
    return {
        "cell": cell.name,
        "fingerprint": cell.fingerprint,
        "content_hash": dataset.info.content_hash,
        "split": split,
        "varied": dict(cell.varied),
        "seed": cell.options.seed,
        "steps": cell.steps,
        "measures": evaluate_run(qrels, searched.run).mean,
        "cost": {"training seconds": seconds, **searched.cost},
    }


def _progress_line(row: Mapping[str, Any]) -> str:
    measures = row["measures"]
    return (
        f"{row['cell']}: Hits@1 {measures['Success@1']:.3f}, Hits@10 {measures['Success@10']:.3f}"
    )


def _system(
    cell: Cell, row: Mapping[str, Any], qrels: dict[str, dict[str, int]], out: Path
) -> Measured:
    from dsi.evaluation.comparison import Measured
    from dsi.evaluation.measures import evaluate_run
    from dsi.search.runs import ranked, read_run

    run = read_run(out / "runs" / f"{cell.name}.trec.gz")
    return Measured(
        "index",
        evaluate_run(qrels, run).per_query,
        dict(cell.varied),
        cell.options.seed,
        row["cost"],
        {query_id: ranked(scores)[0] for query_id, scores in run.items() if scores},
    )


def _compared(
    dataset: Dataset,
    split: str,
    systems: list[Measured],
    cells: Sequence[Cell],
    baselines: str,
    outputs: Any,
) -> Report:
    """Evaluates the baselines, and writes and returns the comparison."""
    from dsi.commands.evaluate import measured_baselines
    from dsi.evaluation.comparison import compare_systems

    baseline_measures, remarks = measured_baselines(baselines, dataset, split)
    everything = [*systems, *baseline_measures]
    data = compare_systems(dataset, split, everything, by=list(cells[0].varied))
    report: Report = outputs.write(data, dataset, split, everything, remarks)
    return report


def _planned(cells: Sequence[Cell]) -> Report:
    names = list(cells[0].varied)
    return TableReport(
        data={
            "trainings": len(cells),
            "cells": [{**cell.varied, "seed": cell.options.seed} for cell in cells],
            "steps": [cell.steps for cell in cells],
        },
        title=f"{len(cells)} trainings",
        columns=(*names, "seed", "steps"),
        rows=[(*cell.varied.values(), cell.options.seed, cell.steps) for cell in cells],
        closing=(f"to see the requirements of one training: {command_line('train')} --dry_run",),
    )
