"""Logs of a run: curves, and one row per evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.files import read_json_lines, write_json_lines
from dsi.training.trackers import TrackedRun, start_trackers


class Log:
    """Logs scalars to TensorBoard and optional trackers, and evaluations to JSONL.

    Args:
        folder: Folder of the run.
        start: The step that training resumes from; records of later steps are dropped, because
            those steps are repeated.
        active: Whether this process writes logs.
        track: The value of `--loop.track`: trackers and their projects; None for none.
    """

    def __init__(self, folder: Path, start: int, *, active: bool, track: str | None = None) -> None:
        self._file = folder / "evaluations.jsonl"
        self._writer: Any = None
        self._runs: list[TrackedRun] = []
        if not active:
            return
        from torch.utils.tensorboard import SummaryWriter

        # A run that starts over evaluates step 0 again.
        earlier = [row for row in read_evaluations(folder) if start and row["step"] <= start]
        write_json_lines(self._file, earlier)
        self._writer = SummaryWriter(
            str(folder / "tensorboard"), purge_step=start + 1 if start else 0
        )
        if track is not None:
            self._runs = start_trackers(track, folder)

    def step(self, step: int, **values: float) -> None:
        """Writes the scalars of a step."""
        self._scalars(step, {f"training/{name}": value for name, value in values.items()})

    def evaluation(self, step: int, measured: Mapping[str, float]) -> None:
        """Writes the results of an evaluation."""
        with self._file.open("a", encoding="utf-8") as rows:
            rows.write(json.dumps({"step": step, **measured}) + "\n")
        self._scalars(step, {f"dev/{name}": value for name, value in measured.items()})

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self._writer is None:
            return
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        for run in self._runs:
            run.log(dict(values), step=step)

    def close(self) -> None:
        """Closes all writers."""
        if self._writer is not None:
            self._writer.close()
        for run in self._runs:
            run.finish()


def read_evaluations(folder: Path) -> list[dict[str, float]]:
    """Returns the evaluations of a run, oldest first; an incomplete last row is ignored."""
    return read_json_lines(folder / "evaluations.jsonl")
