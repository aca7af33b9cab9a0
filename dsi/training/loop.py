"""The training loop: from where it stopped to the last step."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_model, save_model
from tqdm import tqdm

from data_prep.errors import InputError
from data_prep.files import replacing_folder, write_json
from dsi.objectives.base import Objective, Targets
from dsi.training.batching import Batches
from dsi.training.checkpoints import load_checkpoint, save_checkpoint
from dsi.training.optimisers import learning_rate, make_optimiser, set_learning_rate
from dsi.training.options import LoopOptions, OptimiserOptions
from dsi.training.step import backward_step
from dsi.training.validation import DevQueries, validate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dsi.search.torch_trie import TorchTrie

SELECTION_MEASURE = "RR@10"


@dataclass(frozen=True)
class Run:
    """One training run: what is trained, on what, how, and where it leaves its state.

    Attributes:
        model: With the weights of step 0.
        batches: The examples of every step.
        targets: The identifiers.
        objectives: The terms of the loss.
        trie: The identifiers, for evaluation.
        dev: Dev queries; None where the dataset has none, and then the last weights are kept.
        optimiser: How weights move.
        loop: How long.
        seed: Of dropout.
        folder: Where checkpoints, the best weights and the logs are.
    """

    model: PreTrainedModel
    batches: Batches
    targets: Targets
    objectives: Sequence[Objective]
    trie: TorchTrie
    dev: DevQueries | None
    optimiser: OptimiserOptions
    loop: LoopOptions
    seed: int
    folder: Path


def hardware_precision(wanted: str) -> str:
    """Returns "bf16" or "fp32"; auto asks whether the hardware multiplies bf16 natively."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # oneDNN takes bf16 on any AVX-512 machine; it is faster only with instructions for it.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


def train_loop(run: Run) -> dict[str, Any]:
    """Trains to the last step, from the newest checkpoint if there is one.

    The weights of a step depend on the seed and the step only: a run that was killed and run
    again ends with the weights of one that was left alone.

    Returns:
        What was reached: steps, last loss, the best evaluation and its step. The model holds
        the best weights by `SELECTION_MEASURE` on the dev queries, or the last ones without.

    Raises:
        InputError: The loss is no finite number, a checkpoint is damaged, or a batch has too few
            examples for so many processes and parts.
    """
    precision = hardware_precision(run.loop.precision)
    AcceleratorState._reset_state()  # else one process could train in one precision only
    accelerator = Accelerator(
        mixed_precision="bf16" if precision == "bf16" else "no",
        cpu=not torch.cuda.is_available(),
    )
    if run.loop.batch < run.loop.accumulation * accelerator.num_processes:
        raise InputError(
            f"--loop.batch {run.loop.batch} is less than one example for each of "
            f"{accelerator.num_processes} processes x {run.loop.accumulation} parts",
            mend="Raise --loop.batch, or lower --loop.accumulation",
        )
    raw = make_optimiser(run.model, run.optimiser)
    start, progress = load_checkpoint(run.folder / "checkpoints", run.model, raw, run.objectives)
    model, optimiser = accelerator.prepare(run.model, raw)
    targets = run.targets.to(accelerator.device)
    for objective in run.objectives:
        objective.prepare(accelerator.device)
    log = _Log(run.folder, start, active=accelerator.is_main_process)
    loop, steps = run.loop, run.loop.steps
    model.train()
    # Unless it must be silent, the bar is left to TQDM_DISABLE, by which `--quiet` works.
    silent = {} if accelerator.is_local_main_process else {"disable": True}
    bar = tqdm(
        total=steps, initial=start, desc="training", unit="step", dynamic_ncols=True, **silent
    )
    began, tokens = time.monotonic(), 0
    loss = float(progress.get("loss", math.nan))
    for step in range(start, steps):
        torch.manual_seed(int(np.random.SeedSequence([run.seed, 7, step]).generate_state(1)[0]))
        set_learning_rate(raw, learning_rate(run.optimiser, step, steps))
        parts = run.batches.parts(
            step, loop.accumulation, accelerator.process_index, accelerator.num_processes
        )
        reached = backward_step(
            accelerator,
            model,
            parts,
            run.objectives,
            targets,
            examples=loop.batch,
            step=step,
            steps=steps,
        )
        tokens += sum(int(part.attention_mask.sum()) for part in parts)
        loss = reached.loss
        if not math.isfinite(loss):
            raise InputError(
                f"the loss is {loss} at step {step + 1}",
                where=run.folder,
                mend="Lower --optimiser.lr or take --loop.precision fp32; the last checkpoint "
                "is kept, but other options start a run of their own (another --out)",
            )
        if run.optimiser.clip:
            accelerator.clip_grad_norm_(model.parameters(), run.optimiser.clip)
        optimiser.step()
        optimiser.zero_grad()
        for objective in run.objectives:
            objective.after_step(run.model, step)
        done = step + 1
        speed = tokens / max(time.monotonic() - began, 1e-9)
        bar.update()
        bar.set_postfix(loss=f"{loss:.3f}", tokens_per_s=f"{speed:.0f}", refresh=False)
        log.step(
            done,
            loss=loss,
            lr=raw.param_groups[0]["lr"],
            tokens_per_second=speed,
            **{f"loss/{name}": value for name, value in reached.terms.items()},
        )
        if run.dev is not None and (done % loop.evaluation_interval == 0 or done == steps):
            _evaluate(run, accelerator, model, done, progress, log)
        if done % loop.checkpoint_interval == 0 and done < steps and accelerator.is_main_process:
            save_checkpoint(
                run.folder / "checkpoints",
                done,
                accelerator.unwrap_model(model),
                raw,
                {**progress, "loss": loss},
                run.objectives,
            )
    bar.close()
    log.close()
    accelerator.wait_for_everyone()
    if run.dev is not None:
        load_model(run.model, run.folder / "best" / "model.safetensors", strict=True)
    run.model.eval()
    return {**progress, "steps": steps, "precision": precision, "loss": loss}


def _evaluate(
    run: Run,
    accelerator: Accelerator,
    model: torch.nn.Module,
    done: int,
    progress: dict[str, Any],
    log: _Log,
) -> None:
    """Measures the model on the dev queries and keeps its weights if none were better."""
    if accelerator.is_main_process and run.dev is not None:
        plain = accelerator.unwrap_model(model)
        measured = validate(plain, run.dev, run.trie, run.loop.beams)
        log.evaluation(done, measured)
        best = progress.get("best", {}).get(SELECTION_MEASURE, -1.0)
        if measured[SELECTION_MEASURE] > best:
            progress["best"] = {"step": done, **measured}
            with replacing_folder(run.folder / "best") as fresh:
                save_model(plain, str(fresh / "model.safetensors"))
                write_json(fresh / "dev.json", progress["best"])
    accelerator.wait_for_everyone()


class _Log:
    """Scalars for TensorBoard, and every evaluation as a row of a JSONL file."""

    def __init__(self, folder: Path, start: int, *, active: bool) -> None:
        self._file = folder / "evaluations.jsonl"
        self._writer: Any = None
        if not active:
            return
        from torch.utils.tensorboard import SummaryWriter

        # Rows past the checkpoint belong to steps that will be made again.
        kept = [row for row in read_evaluations(folder) if row["step"] <= start]
        self._file.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    def step(self, step: int, **values: float) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"training/{name}", value, step)

    def evaluation(self, step: int, measured: dict[str, float]) -> None:
        with self._file.open("a", encoding="utf-8") as rows:
            rows.write(json.dumps({"step": step, **measured}) + "\n")
        for name, value in measured.items():
            self._writer.add_scalar(f"dev/{name}", value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def read_evaluations(folder: Path) -> list[dict[str, float]]:
    """Returns the evaluations of a run so far, oldest first, without a half-written last row."""
    file = folder / "evaluations.jsonl"
    if not file.is_file():
        return []
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
