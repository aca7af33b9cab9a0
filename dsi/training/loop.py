"""The training loop: from where it stopped to the last step."""

from __future__ import annotations

import json
import math
import time
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
from docids.table import PAD
from dsi.objectives.cross_entropy import IGNORED, docid_cross_entropy
from dsi.training.batching import Batch, Batches
from dsi.training.checkpoints import load_checkpoint, save_checkpoint
from dsi.training.optimisers import learning_rate, make_optimiser, set_learning_rate
from dsi.training.options import LoopOptions, OptimiserOptions
from dsi.training.validation import DevQueries, validate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dsi.search.torch_trie import TorchTrie

SELECTION_MEASURE = "RR@10"


@dataclass(frozen=True)
class Targets:
    """The identifiers as the loss reads them.

    Attributes:
        codes: The codes of every table row, `IGNORED` past the end; int64 [rows, longest].
        competitors: Which codes a labelled query competes with at each position; bool
            [longest, alphabet], or None for all.
    """

    codes: torch.Tensor
    competitors: torch.Tensor | None

    @classmethod
    def of(cls, matrix: np.ndarray, alphabet_size: int, labelled: np.ndarray | None) -> Targets:
        """Takes the codes from the table's matrix.

        Args:
            matrix: The identifiers, padded with `PAD`; int32 [rows, longest].
            alphabet_size: How many codes there are.
            labelled: Rows that labelled queries compete among; None for all of them.
        """
        codes = torch.from_numpy(matrix.astype(np.int64))
        competitors = None
        if labelled is not None:
            allowed = np.zeros((matrix.shape[1], alphabet_size), bool)
            for position in range(matrix.shape[1]):
                allowed[position, matrix[labelled, position]] = True
            competitors = torch.from_numpy(allowed)
        return cls(codes.masked_fill(codes == PAD, IGNORED), competitors)


@dataclass(frozen=True)
class Run:
    """One training run: what is trained, on what, how, and where it leaves its state.

    Attributes:
        model: With the weights of step 0.
        batches: The examples of every step.
        targets: The identifiers.
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
    start, progress = load_checkpoint(run.folder / "checkpoints", run.model, raw)
    model, optimiser = accelerator.prepare(run.model, raw)
    device = accelerator.device
    codes = run.targets.codes.to(device)
    competitors = None if run.targets.competitors is None else run.targets.competitors.to(device)
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
        total = torch.zeros((), device=device)
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            with accelerator.accumulate() if last else accelerator.no_sync(model):
                part_loss = _loss(model, part, codes, competitors, loop.label_smoothing)
                # Mean over the whole step, so that parts and processes do not change it; DDP
                # averages over processes what here must be summed.
                part_loss = part_loss * (accelerator.num_processes / loop.batch)
                accelerator.backward(part_loss)
            total += part_loss.detach()
            tokens += int(part.attention_mask.sum())
        loss = float(accelerator.reduce(total, "mean"))
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
        done = step + 1
        speed = tokens / max(time.monotonic() - began, 1e-9)
        bar.update()
        bar.set_postfix(loss=f"{loss:.3f}", tokens_per_s=f"{speed:.0f}", refresh=False)
        log.step(done, loss=loss, lr=raw.param_groups[0]["lr"], tokens_per_second=speed)
        if run.dev is not None and (done % loop.evaluation_interval == 0 or done == steps):
            _evaluate(run, accelerator, model, done, progress, log)
        if done % loop.checkpoint_interval == 0 and done < steps and accelerator.is_main_process:
            save_checkpoint(
                run.folder / "checkpoints",
                done,
                accelerator.unwrap_model(model),
                raw,
                {**progress, "loss": loss},
            )
    bar.close()
    log.close()
    accelerator.wait_for_everyone()
    if run.dev is not None:
        load_model(run.model, run.folder / "best" / "model.safetensors", strict=True)
    run.model.eval()
    return {**progress, "steps": steps, "precision": precision, "loss": loss}


def _loss(
    model: torch.nn.Module,
    batch: Batch,
    codes: torch.Tensor,
    competitors: torch.Tensor | None,
    label_smoothing: float,
) -> torch.Tensor:
    """The cross-entropy of a part's identifiers, summed over their codes and over examples."""
    device = codes.device
    targets = codes[torch.from_numpy(batch.rows).to(device)]
    lengths = (targets != IGNORED).sum(dim=1)
    targets = targets[:, : int(lengths.max())]
    started = torch.full_like(targets, PAD)
    started[:, 1:] = targets[:, :-1].masked_fill(targets[:, :-1] == IGNORED, PAD)
    logits = model(
        input_ids=torch.from_numpy(batch.input_ids).to(device),
        attention_mask=torch.from_numpy(batch.attention_mask).to(device),
        decoder_input_ids=started,
        use_cache=False,
    ).logits
    labelled = torch.from_numpy(batch.labelled).to(device)
    groups: list[tuple[Any, torch.Tensor | None]] = [(slice(None), None)]
    if competitors is not None:
        groups = [(labelled, competitors[None, : targets.shape[1]]), (~labelled, None)]
    return sum(
        (
            docid_cross_entropy(
                logits[group],
                targets[group],
                label_smoothing=label_smoothing,
                competitors=among,
            )
            for group, among in groups
        ),
        start=logits.sum() * 0,
    )


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
