"""Crash-safe checkpoints: written to a temporary folder, then renamed, then old ones removed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model

from data_prep.errors import InputError
from data_prep.files import read_json, replacing_folder, write_json
from dsi.objectives.base import Objective
from dsi.training.engines.base import OptimizerState

_STATE = "state.json"
_OBJECTIVES = "objectives.safetensors"


def save_checkpoint(
    folder: Path,
    step: int,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer | OptimizerState,
    progress: dict[str, Any],
    objectives: Sequence[Objective] = (),
) -> None:
    """Writes a checkpoint and removes older ones.

    Args:
        folder: Checkpoint folder.
        step: Number of completed steps.
        model: The weights.
        optimizer: The optimizer, or its state dict gathered from all processes.
        progress: Other state of the run, as JSON.
        objectives: Terms of the loss; some have state.
    """
    state: OptimizerState = (
        optimizer.state_dict()["state"]
        if isinstance(optimizer, torch.optim.Optimizer)
        else optimizer
    )
    with replacing_folder(folder / f"{step:08d}") as fresh:
        save_model(model, str(fresh / "model.safetensors"))
        tensors = {
            f"{number}.{name}": value.contiguous()
            for number, entries in state.items()
            for name, value in entries.items()
        }
        save_file(tensors, fresh / "optimizer.safetensors")
        objective_states = {
            f"{objective.name}.{name}": value.contiguous()
            for objective in objectives
            for name, value in objective.state().items()
        }
        if objective_states:
            save_file(objective_states, fresh / _OBJECTIVES)
        write_json(fresh / _STATE, {"step": step, "progress": progress})
    for older in steps_saved(folder)[:-1]:
        shutil.rmtree(folder / f"{older:08d}", ignore_errors=True)


def load_checkpoint(
    folder: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    objectives: Sequence[Objective] = (),
) -> tuple[int, dict[str, Any]]:
    """Restores the newest checkpoint in place.

    Args:
        folder: The folder that `save_checkpoint` wrote to.
        model: Receives the weights.
        optimizer: Receives its state.
        objectives: Terms of the loss; those with state have it restored.

    Returns:
        The number of completed steps and the saved `progress`; (0, {}) if there is no checkpoint.

    Raises:
        InputError: The checkpoint is damaged or belongs to a different model.
    """
    saved = steps_saved(folder)
    if not saved:
        return 0, {}
    newest = folder / f"{saved[-1]:08d}"
    try:
        load_model(model, newest / "model.safetensors", strict=True)
        flat = load_file(newest / "optimizer.safetensors")
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in flat.items():
            number, name = key.split(".", 1)
            state.setdefault(int(number), {})[name] = value
        stored = optimizer.state_dict()
        optimizer.load_state_dict({"state": state, "param_groups": stored["param_groups"]})
        if (newest / _OBJECTIVES).is_file():
            terms = {objective.name: objective for objective in objectives}
            states: dict[str, dict[str, torch.Tensor]] = {}
            for key, value in load_file(newest / _OBJECTIVES).items():
                term, name = key.split(".", 1)
                states.setdefault(term, {})[name] = value
            for term, kept_state in states.items():
                terms[term].restore(kept_state)
        training_state = read_json(newest / _STATE)
        return int(training_state["step"]), training_state["progress"]
    except InputError:
        raise
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"the checkpoint is damaged ({str(error).splitlines()[0]})",
            where=newest,
            hint="Remove this folder; training then starts again from the beginning",
        ) from None


def steps_saved(folder: Path) -> list[int]:
    """Returns the steps of the complete checkpoints in a folder, ascending."""
    if not folder.is_dir():
        return []
    return sorted(
        int(entry.name)
        for entry in folder.iterdir()
        if re.fullmatch(r"[0-9]+", entry.name) and (entry / _STATE).is_file()
    )
