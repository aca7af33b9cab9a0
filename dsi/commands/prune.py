"""`dsi prune`: removes old versions to free disk space."""

from __future__ import annotations

from pathlib import Path

from data_prep.errors import command_line
from data_prep.marks import Count
from dsi.command_line.command_report import Report, TableReport


def prune(index: Path, *, keep: Count, dry_run: bool = False) -> Report:
    """Removes old versions of an index permanently.

    The live version is always kept, and then the newest of the others. A removed version cannot be
    restored: --dry-run shows what would be removed.

    Args:
        index: The folder of the index.
        keep: Number of versions to keep, including the live one.
        dry_run: Show what would be removed, and stop.
    """
    from rich.filesize import decimal

    from dsi.updating.prune import plan_pruning, prune_versions

    outcome = plan_pruning(index, keep) if dry_run else prune_versions(index, keep)
    count = f"{len(outcome.removed)} version{'s' if len(outcome.removed) != 1 else ''}"
    if not outcome.removed:
        title = (
            f"{index}: nothing to remove; the index has {len(outcome.kept)} of at most {keep} "
            "versions"
        )
    elif dry_run:
        title = f"{index}: {count} would be removed, which frees {decimal(outcome.freed)}"
    else:
        title = f"{index}: {count} removed, {decimal(outcome.freed)} freed"
    go_on = command_line("prune", index, "--keep", str(keep))
    return TableReport(
        data={
            "index": str(index),
            "live": outcome.live,
            "kept": outcome.kept,
            "removed": [vars(old) for old in outcome.removed],
            "freed_bytes": outcome.freed,
            "dry_run": dry_run,
        },
        title=title,
        columns=("removed", "documents", "made") if outcome.removed else (),
        rows=[(old.version, old.documents, old.created or None) for old in outcome.removed],
        closing=(
            f"kept: {', '.join(outcome.kept)}; version {outcome.live} is live",
            *([f"to remove them: {go_on}"] if dry_run and outcome.removed else []),
        ),
    )
