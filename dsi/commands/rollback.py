"""`dsi rollback`: makes an earlier version live."""

from __future__ import annotations

import contextlib
from pathlib import Path

from data_prep.errors import InputError, command_line
from dsi.command_line.command_report import Report, TableReport


def rollback(index: Path, *, to: str | None = None) -> Report:
    """Makes an earlier version of an index live again.

    Args:
        index: Index folder.
        to: Version to make live; default: the parent of the live version.
    """
    from dsi.index_folder import versions

    before = None
    with contextlib.suppress(InputError):  # `rollback` reports or repairs it
        before = versions.live(index)
    after = versions.rollback(index, to)
    return TableReport(
        data={"index": str(index), "before": before, "live": after},
        title=f"{index}: version {after} is live.",
        closing=()
        if before is None
        else (f"to undo: {command_line('rollback', index, '--to', before)}",),
    )
