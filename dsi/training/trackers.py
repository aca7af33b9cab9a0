"""Experiment trackers that a run can report to in addition to TensorBoard.

A tracker is one function in `TRACKERS`: it starts a run, or resumes that of an interrupted
training, and returns an object with `log(values, step=step)` and `finish()`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from data_prep.errors import InputError
from data_prep.progress import note


class TrackedRun(Protocol):
    """A run of a tracker."""

    def log(self, metrics: dict[str, float], step: int | None = None) -> Any:
        """Logs the values of a step."""
        ...

    def finish(self) -> Any:
        """Finishes the run."""
        ...


def _start_wandb(project: str, folder: Path, run_id: str, config: Mapping[str, Any]) -> Any:
    """Weights & Biases; with WANDB_MODE=offline the run stays in the folder."""
    import wandb

    return wandb.init(
        project=project, id=run_id, resume="allow", config=dict(config), dir=str(folder)
    )


class _TrackioRun:
    """A Trackio run, whose output to stdout is redirected to stderr."""

    def __init__(self, **settings: Any) -> None:
        import trackio

        self._trackio = trackio
        with contextlib.redirect_stdout(sys.stderr):
            self._run = trackio.init(**settings, embed=False)

    def log(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Logs the values of a step."""
        self._run.log(metrics, step=step)

    def finish(self) -> None:
        """Finishes the run."""
        with contextlib.redirect_stdout(sys.stderr):
            self._trackio.finish()


def _start_trackio(project: str, folder: Path, run_id: str, config: Mapping[str, Any]) -> Any:
    """Trackio; runs are stored locally (TRACKIO_DIR), and `trackio show` displays them."""
    return _TrackioRun(project=project, name=run_id, resume="allow", config=dict(config))


TRACKERS: Mapping[str, Callable[[str, Path, str, Mapping[str, Any]], TrackedRun]] = {
    "wandb": _start_wandb,
    "trackio": _start_trackio,
}


def parse_track(text: str) -> list[tuple[str, str]]:
    """Returns (tracker, project) for each part of `--loop.track`.

    Args:
        text: One or several `TRACKER:PROJECT`, separated by commas.

    Raises:
        InputError: A tracker is unknown or named twice, or a project is missing.
    """
    parts: list[tuple[str, str]] = []
    for part in text.split(","):
        name, _, project = part.strip().partition(":")
        if name not in TRACKERS or not re.fullmatch(r"[\w. /-]+", project):
            raise InputError(
                f"{part.strip()!r} is not a tracker with a project",
                where="--loop.track",
                hint=f"Give {' or '.join(f'{tracker}:PROJECT' for tracker in TRACKERS)}",
            )
        if name in (earlier for earlier, _ in parts):
            raise InputError(f"{name} appears twice", where="--loop.track", hint="Give it once")
        parts.append((name, project))
    return parts


def check_trackers(text: str) -> None:
    """Refuses unknown trackers and those that are not installed.

    Raises:
        InputError: A tracker is unknown or not installed.
    """
    for name, _ in parse_track(text):
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"--loop.track {text!r} requires the package {name}",
                hint=f"pip install 'dsi-toolkit[{name}]', or omit the option: TensorBoard files "
                "are written anyway",
            )


def start_trackers(text: str, folder: Path) -> list[TrackedRun]:
    """Starts a run of each tracker, or resumes that of the same training.

    A tracker that fails later is noted, and the training goes on without it.

    Args:
        text: The value of `--loop.track`.
        folder: Folder of the training; the arguments it was called with name the run.

    Raises:
        InputError: A tracker is not installed, or does not start.
    """
    check_trackers(text)
    claim = folder / "training.json"
    config = json.loads(claim.read_text(encoding="utf-8")) if claim.is_file() else {}
    identity = f"{folder.resolve()} {json.dumps(config, sort_keys=True)}"
    run_id = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return [_started(name, project, folder, run_id, config) for name, project in parse_track(text)]


def _started(
    name: str, project: str, folder: Path, run_id: str, config: Mapping[str, Any]
) -> TrackedRun:
    try:
        return _Forgiving(name, TRACKERS[name](project, folder, run_id, config))
    except Exception as error:  # trackers raise errors of their own, and of networks
        raise InputError(
            f"{name} does not start ({_line(error)})",
            where="--loop.track",
            hint=f"Report offline (WANDB_MODE=offline), or omit {name}: TensorBoard files are "
            "written anyway",
        ) from None


class _Forgiving:
    """A run that reports no more once its tracker fails: the training goes on.

    Args:
        name: The tracker.
        run: What it started.
    """

    def __init__(self, name: str, run: TrackedRun) -> None:
        self._name = name
        self._run: TrackedRun | None = run

    def log(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Logs the values of a step."""
        if self._run is not None:
            self._tried(lambda run: run.log(metrics, step=step))

    def finish(self) -> None:
        """Finishes the run."""
        if self._run is not None:
            self._tried(lambda run: run.finish())

    def _tried(self, report: Callable[[TrackedRun], Any]) -> None:
        assert self._run is not None
        try:
            report(self._run)
        except Exception as error:
            self._run = None
            note(f"{self._name} failed and gets no more values ({_line(error)}). Training goes on")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
