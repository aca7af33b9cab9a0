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
    done = update_index(
        index, lambda folder: dataset_of(new, folder, source, cut), options, old=old_dataset
    )
    manifest, difference = done.manifest, done.difference
    counts = {
        name: 0 if difference is None else len(getattr(difference, name))
        for name in ("added", "changed", "unchanged", "removed")
    }
    metrics = dict(manifest.metrics) if done.wrote else {}
    probe = metrics.pop("probe", None)
    for name in ("best", "start", "lexical"):
        metrics.pop(name, None)
    rows: list[tuple[str, object]] = [*counts.items(), ("documents", manifest.documents)]
    rows += list(metrics.items())
    if probe:
        rows += [
            (f"Hits@10 of old documents {moment}", probe[moment]["Success@10"])
            for moment in ("before", "after")
        ]
    for name, values in done.timing.items():
        rows += [(f"{name}, {part}", value) for part, value in values.items()]
    live = f"version {manifest.version} is live"
    return TableReport(
        data={
            "index": str(index),
            "version": manifest.version,
            "wrote": done.wrote,
            **counts,
            "documents": manifest.documents,
            "metrics": dict(manifest.metrics) if done.wrote else {},
            "warnings": done.warnings,
            "not_inherited": done.not_inherited,
            "dropped": {reason: asdict(counter) for reason, counter in done.dropped.items()},
            "timing": dict(done.timing),
        },
        title=f"{index}: {live}" if done.wrote else f"{index}: no new documents; {live}",
        columns=("", ""),
        rows=rows,
        closing=(
            *(f"WARNING: {warning}" for warning in done.warnings),
            *done.not_inherited,
            *counter_lines("left out", done.dropped),
            *(
                ["the index keeps its earlier versions of documents that were left out"]
                if done.dropped
                else []
            ),
            *([f"to undo: {command_line('rollback', index)}"] if done.wrote else []),
        ),
    )
