"""What a run leaves for those who watch it: curves, and every evaluation as a row."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.files import read_json_lines, write_json_lines


class Log:
    """Scalars for TensorBoard and, if asked, Weights & Biases; every evaluation as a JSONL row.

    Args:
        folder: Of the run.
        start: The step that training goes on from; what was written of later ones is dropped,
            because they are made again.
        active: Whether this process writes at all.
        wandb: The project in Weights & Biases; None for none.
    """

    def __init__(self, folder: Path, start: int, *, active: bool, wandb: str | None = None) -> None:
        self._file = folder / "evaluations.jsonl"
        self._writer: Any = None
        self._wandb: Any = None
        if not active:
            return
        from torch.utils.tensorboard import SummaryWriter

        # A run that begins measures step 0 again.
        kept = [row for row in read_evaluations(folder) if start and row["step"] <= start]
        write_json_lines(self._file, kept)
        self._writer = SummaryWriter(
            str(folder / "tensorboard"), purge_step=start + 1 if start else 0
        )
        if wandb is not None:
            self._wandb = _start_wandb(wandb, folder)

    def step(self, step: int, **values: float) -> None:
        """Writes what a step has shown."""
        self._scalars(step, {f"training/{name}": value for name, value in values.items()})

    def evaluation(self, step: int, measured: Mapping[str, float]) -> None:
        """Writes what an evaluation has shown."""
        with self._file.open("a", encoding="utf-8") as rows:
            rows.write(json.dumps({"step": step, **measured}) + "\n")
        self._scalars(step, {f"dev/{name}": value for name, value in measured.items()})

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self._writer is None:
            return
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)

    def close(self) -> None:
        """Ends all writing."""
        if self._writer is not None:
            self._writer.close()
        if self._wandb is not None:
            self._wandb.finish()


def read_evaluations(folder: Path) -> list[dict[str, float]]:
    """Returns the evaluations of a run so far, oldest first, without a half-written last row."""
    return read_json_lines(folder / "evaluations.jsonl")


def check_wandb(project: str) -> None:
    """Refuses to log to Weights & Biases where its package is missing.

    Raises:
        InputError: It is.
    """
    if importlib.util.find_spec("wandb") is None:
        raise InputError(
            f"--loop.wandb {project!r} needs the package wandb",
            hint="pip install 'dsi-toolkit[wandb]', or leave the option out: TensorBoard files "
            "are written anyway",
        )


def _start_wandb(project: str, folder: Path) -> Any:
    """Starts a run, or goes on with that of an interrupted training; WANDB_MODE=offline works."""
    check_wandb(project)
    import wandb

    claim = folder / "training.json"
    config = json.loads(claim.read_text(encoding="utf-8")) if claim.is_file() else {}
    name = f"{folder.resolve()} {json.dumps(config, sort_keys=True)}"
    return wandb.init(
        project=project,
        id=hashlib.sha256(name.encode()).hexdigest()[:16],
        resume="allow",
        config=config,
        dir=str(folder),
    )
