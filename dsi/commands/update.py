"""`dsi update`: adds documents to an index as a new version."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from data_prep.errors import command_line
from data_prep.marks import ADVANCED, Advanced
from data_prep.sources.base import SourceOptions
from dsi.command_line.arguments import SPREAD
from dsi.command_line.command_report import Report, TableReport
from dsi.updating.options import UpdateOptions

_OPTIONS = UpdateOptions()
_SOURCE = SourceOptions()


def update(
    index: Path,
    new: str,
    *,
    old: Advanced[Path | None] = None,
    options: Annotated[UpdateOptions, SPREAD] = _OPTIONS,
    source: Annotated[SourceOptions, SPREAD, ADVANCED] = _SOURCE,
) -> Report:
    """Adds documents to an index, as a new version.

    Documents that the index already has are skipped; one whose text has changed is replaced and
    keeps its identifier. The previous version answers searches until the new one is complete. If
    interrupted, run it again to resume. docs/updating.md describes the strategies.

    Args:
        index: Index folder.
        new: New documents: a dataset, or any source that `dsi prepare` recognizes. They are
            split into passages like the documents of the index.
        old: Dataset the index was trained on, for an index that does not store its documents.
        options: How new documents enter the index, and how old ones are kept.
        source: Column names and further files, if NEW is not a dataset.
    """
    from data_prep.dataset import Dataset
    from dsi.commands.prepare import counter_lines
    from dsi.given_documents import check_given, dataset_of, passages_of

    # Before torch is imported, which takes seconds.
    cut = passages_of(index)
    check_given(new, source)
    old_dataset = None if old is None else Dataset.open(old)
    from dsi.updating.strategy_parsing import refuse_unused
    from dsi.updating.update import update_index

    refuse_unused(options)
    outcome = update_index(
        index, lambda folder: dataset_of(new, folder, source, cut), options, old=old_dataset
    )
    manifest, difference = outcome.manifest, outcome.difference
    counts = {
        name: 0 if difference is None else len(getattr(difference, name))
        for name in ("added", "changed", "unchanged", "removed")
    }
    metrics = dict(manifest.metrics) if outcome.wrote else {}
    probe = metrics.pop("probe", None)
    for name in ("best", "start", "lexical"):
        metrics.pop(name, None)
    if metrics.get("steps") == 0:
        metrics.pop("batch", None)
    rows: list[tuple[str, object]] = [*counts.items(), ("documents", manifest.documents)]
    rows += list(metrics.items())
    if probe:
        rows += [
            (f"Hits@10 of old documents {moment}", probe[moment]["Success@10"])
            for moment in ("before", "after")
        ]
    for name, values in outcome.timing.items():
        rows += [(f"{name}, {part}", value) for part, value in values.items()]
    live = f"version {manifest.version} is live"
    return TableReport(
        data={
            "index": str(index),
            "version": manifest.version,
            "wrote": outcome.wrote,
            **counts,
            "documents": manifest.documents,
            "metrics": dict(manifest.metrics) if outcome.wrote else {},
            "warnings": outcome.warnings,
            "not_inherited": outcome.not_inherited,
            "dropped": {reason: asdict(counter) for reason, counter in outcome.dropped.items()},
            "timing": dict(outcome.timing),
        },
        title=f"{index}: {live}" if outcome.wrote else f"{index}: no new documents; {live}",
        columns=("", ""),
        rows=rows,
        closing=(
            *(f"WARNING: {warning}" for warning in outcome.warnings),
            *outcome.not_inherited,
            *counter_lines("left out", outcome.dropped),
            *(
                ["the index keeps its earlier versions of documents that were left out"]
                if outcome.dropped
                else []
            ),
            *([f"to undo: {command_line('rollback', index)}"] if outcome.wrote else []),
        ),
    )
