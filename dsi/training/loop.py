"""The training loop, from the newest checkpoint to the last step."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
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
from dsi.data.batching import Batch, Batches
from dsi.kernels.bucket_count import best_bucket_count, pass_overhead_tokens
from dsi.kernels.install import install
from dsi.kernels.unpadded import supports_unpadded
from dsi.objectives.base import Objective, Targets
from dsi.training.checkpoints import load_checkpoint, save_checkpoint
from dsi.training.engines import Engine
from dsi.training.failures import translate_errors
from dsi.training.forgetting import Forgetting
from dsi.training.log import Log
from dsi.training.memory_estimate import (
    Shape,
    available,
    estimate,
    neighbors,
    refuse_what_cannot_fit,
)
from dsi.training.optimization.learning_rate_schedule import learning_rate, set_learning_rate
from dsi.training.optimization.optimizers import make_optimizer
from dsi.training.optimization.sam import Perturbation, weights_to_perturb
from dsi.training.options import LoopOptions, OptimizerOptions, SamOptions
from dsi.training.step import StepLoss, backward_step
from dsi.training.validation import DevQueries, ranks_of, validate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dsi.search.torch_trie import TorchTrie

SELECTION_MEASURE = "RR@10"


@dataclass(frozen=True)
class Run:
    """One training run: model, data, optimization, and the folder that holds its state.

    Attributes:
        model: The model, with its initial weights.
        batches: Yields the examples of every step.
        targets: The identifiers.
        objectives: The terms of the loss.
        trie: Trie of the identifiers, for evaluation.
        dev: Dev queries; None if the dataset has none, in which case the last weights are kept.
        optimizer: Optimizer options.
        loop: Options of the loop.
        seed: Seed of dropout.
        folder: Folder of checkpoints, best weights and logs.
        sam: SAM options.
        deepspeed: A DeepSpeed configuration (`read_zero_config`); None for DDP.
        documents: Texts of documents whose memorization and forgetting are tracked; None for none.
    """

    model: PreTrainedModel
    batches: Batches
    targets: Targets
    objectives: Sequence[Objective]
    trie: TorchTrie
    dev: DevQueries | None
    optimizer: OptimizerOptions
    loop: LoopOptions
    seed: int
    folder: Path
    sam: SamOptions = field(default_factory=SamOptions)
    deepspeed: dict[str, Any] | None = None
    documents: DevQueries | None = None

    @property
    def without_padding(self) -> bool:
        """Whether a micro-batch is processed in one pass, without padding."""
        return self.deepspeed is None and supports_unpadded(self.model)

    @cached_property
    def pass_overhead_tokens(self) -> float:
        """The fixed cost of a forward pass, in tokens of text."""
        return pass_overhead_tokens(self.model)


def hardware_precision(precision: str) -> str:
    """Returns "bf16" or "fp32"; auto selects bf16 if the hardware supports it natively."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # oneDNN accepts bf16 on any AVX-512 machine, but it is faster only with native instructions.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


def train_loop(run: Run) -> dict[str, Any]:
    """Trains to the last step, from the newest checkpoint if there is one.

    The weights after a step depend only on the seed and the step: a run that was killed and resumed
    ends with the same weights as an uninterrupted one.

    Returns:
        The results: steps, examples read, last loss, best evaluation and its step. The model holds
        the best weights by `SELECTION_MEASURE` on the dev queries, or the last weights if there are
        no dev queries.

    Raises:
        InputError: The loss is not finite, a checkpoint is damaged, or a batch has too few examples
            for the number of processes and parts.
    """
    precision = hardware_precision(run.loop.precision)
    if run.deepspeed is not None:  # it splits and copies layers
        return _train(run, precision)
    with install(
        run.model,
        "training",
        precision=precision,
        length_buckets=run.loop.length_buckets,
        encoder_states=any(objective.encoder_states for objective in run.objectives),
    ):
        return _train(run, precision)


def _train(run: Run, precision: str) -> dict[str, Any]:
    """Trains in the given precision; see `train_loop`."""
    engine, start, progress = _start(run, precision)
    accelerator, loop, steps = engine.accelerator, run.loop, run.loop.total
    perturbation = _perturbation(run, engine)
    targets = run.targets.to(accelerator.device)
    for objective in run.objectives:
        objective.prepare(accelerator.device)
    log = Log(run.folder, start, active=accelerator.is_main_process, track=run.loop.track)
    forgetting = Forgetting(len(run.documents or ()))
    if "forgetting" in progress:
        forgetting.restore(progress["forgetting"])
    engine.model.train()
    # Unless disabled here, the progress bar obeys TQDM_DISABLE, which `--quiet` sets.
    silent = {} if accelerator.is_local_main_process else {"disable": True}
    bar = tqdm(
        total=steps, initial=start, desc="training", unit="step", dynamic_ncols=True, **silent
    )
    if start == 0 and (run.dev is not None or run.documents is not None):
        _evaluate(run, engine, 0, {}, progress, log, forgetting)
        progress["start"] = dict(progress.get("best", {}))
    began, tokens = time.monotonic(), 0
    loss = float(progress.get("loss", math.nan))
    for step in range(start, steps):
        set_learning_rate(engine, learning_rate(run.optimizer, step, steps))
        with translate_errors(run.folder, step + 1):
            parts = run.batches.parts(
                step, loop.accumulation, accelerator.process_index, accelerator.num_processes
            )
            reached, sharpness = _gradients(run, engine, perturbation, parts, targets, step)
            tokens += sum(int(part.attention_mask.sum()) for part in parts)
            loss = reached.loss
            if not math.isfinite(loss):
                raise InputError(
                    f"the loss is {loss} at step {step + 1}",
                    where=run.folder,
                    hint="Lower --optimizer.lr or use --loop.precision fp32. The last checkpoint "
                    "is kept, but other options need a new run (another --out)",
                )
            engine.step(run.optimizer.clip)
        for objective in run.objectives:
            objective.after_step(engine.network, step)
        steps_done = step + 1
        speed = tokens / max(time.monotonic() - began, 1e-9)
        bar.update()
        bar.set_postfix(loss=f"{loss:.3f}", tokens_per_s=f"{speed:.0f}", refresh=False)
        log.step(
            steps_done,
            loss=loss,
            lr=engine.param_groups[0]["lr"],
            tokens_per_second=speed,
            **sharpness,
            **{f"loss/{name}": value for name, value in reached.terms.items()},
        )
        watched = run.dev is not None or run.documents is not None
        if watched and (steps_done % loop.evaluation_interval == 0 or steps_done == steps):
            _evaluate(run, engine, steps_done, {"loss": loss}, progress, log, forgetting)
        if steps_done % loop.checkpoint_interval == 0 and steps_done < steps:
            _checkpoint(run, engine, steps_done, {**progress, "loss": loss})
    bar.close()
    log.close()
    engine.whole()
    accelerator.wait_for_everyone()
    if run.dev is not None:
        load_model(run.model, run.folder / "best" / "model.safetensors", strict=True)
    run.model.eval()
    if run.documents is not None:
        progress["forgetting"] = forgetting.summary()
    return {
        **progress,
        "steps": steps,
        "examples": run.batches.total(steps),
        "precision": precision,
        "loss": loss,
    }


def _start(run: Run, precision: str) -> tuple[Engine, int, dict[str, Any]]:
    """Creates the engine, with the state of the newest checkpoint if there is one.

    Returns:
        The engine, the number of completed steps, and the rest of the checkpoint's state.
    """
    AcceleratorState._reset_state()  # otherwise one process could train in one precision only
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if run.batches.fewest < run.loop.accumulation * processes:
        option, size = f"--loop.batch {run.loop.size}", "is less than"
        if run.loop.tokens is not None:
            option = f"--loop.tokens {run.loop.tokens}"
            size = f"(texts have up to {run.batches.longest}) may be less than"
        raise InputError(
            f"{option} {size} one example for each of {processes} processes x "
            f"{run.loop.accumulation} parts",
            hint=f"Raise {option.split()[0]}, or lower --loop.accumulation",
        )
    if run.optimizer.rows == "touched" and processes > 1 and run.deepspeed is None:
        raise InputError(
            f"--optimizer.rows touched supports one process, but there are {processes}",
            hint="Use --optimizer.rows all",
        )
    if run.loop.gradient_checkpointing:
        # The reentrant variant does not support `torch.autograd.grad` with respect to weights.
        run.model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = make_optimizer(run.model, run.optimizer)
    if run.loop.check_memory:
        _check_memory(run, processes)
    checkpoints = run.folder / "checkpoints"
    if run.deepspeed is None:
        from dsi.training.engines.plain import PlainEngine

        accelerator = Accelerator(
            mixed_precision="bf16" if precision == "bf16" else "no",
            cpu=not torch.cuda.is_available(),
        )
        start, progress = load_checkpoint(checkpoints, run.model, optimizer, run.objectives)
        return PlainEngine(accelerator, run.model, optimizer), start, progress
    from dsi.training.engines.zero import ZeroEngine, refuse_with_zero, zero_accelerator

    refuse_with_zero(run.optimizer, run.objectives, run.deepspeed)
    examples = math.ceil(run.batches.size / (processes * run.loop.accumulation))
    accelerator = zero_accelerator(run.deepspeed, precision, examples)
    start, progress = load_checkpoint(checkpoints, run.model, optimizer, run.objectives)
    return ZeroEngine(accelerator, run.model, optimizer, run.optimizer.clip), start, progress


def _check_memory(run: Run, processes: int) -> None:
    """Refuses a run whose first step cannot fit in memory.

    Args:
        run: The run, with its network built.
        processes: Number of processes of the run.
    """
    zero = {} if run.deepspeed is None else run.deepspeed["zero_optimization"]
    if zero.get("offload_optimizer", {}).get("device", "none") != "none":
        return  # DeepSpeed decides the placement
    needs = [
        estimate(
            Shape.of(
                run.model.config,
                encoder_moves=any(
                    weight.requires_grad for weight in run.model.get_encoder().parameters()
                ),
            ),
            sum(weight.numel() for weight in run.model.parameters() if weight.requires_grad),
            examples=math.ceil(examples / (processes * run.loop.accumulation)),
            tokens=tokens,
            codes=run.targets.codes.shape[1],
            optimizer=run.optimizer.name,
            sam=run.sam.rho > 0,
            checkpointing=run.loop.gradient_checkpointing,
            zero_stage=zero.get("stage", 0),
            processes=processes,
        )
        for examples, tokens in run.batches.shapes()
    ]
    refuse_what_cannot_fit(
        max(needs, key=lambda need: need.batch),
        available(run.model.device) // neighbors(run.model.device),
        accumulation=run.loop.accumulation,
        checkpointing=run.loop.gradient_checkpointing,
    )


def _perturbation(run: Run, engine: Engine) -> Perturbation | None:
    """Returns SAM's perturbation; None if SAM is off."""
    if not run.sam.rho:
        return None
    names = weights_to_perturb(run.model, run.sam.weights)
    shards = engine.shards(names, own=run.sam.perturbation == "process")
    return Perturbation(shards, rho=run.sam.rho, adaptive=run.sam.adaptive)


def _gradients(
    run: Run,
    engine: Engine,
    perturbation: Perturbation | None,
    parts: Sequence[Batch],
    targets: Targets,
    step: int,
) -> tuple[StepLoss, dict[str, float]]:
    """Computes the gradients of a step, at the perturbed weights in SAM steps.

    Returns:
        The loss of the step, at the unperturbed weights if all of it was computed there; and its
        increase at the perturbed weights ("sharpness"), if known.
    """
    sharers = engine.accelerator.num_processes * run.loop.accumulation
    # Derived from values that all processes share, so that all run equally many passes; no part has
    # fewer examples.
    fewest, each = run.batches.fewest // sharers, run.pass_overhead_tokens
    most = 1 if run.without_padding else run.loop.length_buckets
    lengths = run.batches.lengths(step)

    def once(parts: Sequence[Batch], own: bool = False, share: float = 1.0) -> StepLoss:
        # The same dropout in both passes, which then differ in the weights only.
        torch.manual_seed(int(np.random.SeedSequence([run.seed, 7, step]).generate_state(1)[0]))
        return backward_step(
            engine,
            parts,
            run.objectives,
            targets,
            examples=sum(run.batches.counts(step)),
            step=step,
            steps=run.loop.total,
            own=own,
            groups=min(
                best_bucket_count(lengths, most, each, sharers / share), max(1, int(fewest * share))
            ),
        )

    if perturbation is None or not run.sam.applies_at(step):
        return once(parts), {}
    fraction = run.sam.fraction
    subsampled = [part.subsampled(fraction, step) for part in parts]
    perturbation_parts = once(subsampled, own=run.sam.perturbation == "process", share=fraction)
    with perturbation.applied():
        update_parts = once(parts)
    if fraction < 1:
        return update_parts, {}
    finite = math.isfinite(update_parts.loss)
    return perturbation_parts if finite else update_parts, {
        "sharpness": update_parts.loss - perturbation_parts.loss
    }


def _checkpoint(run: Run, engine: Engine, steps_done: int, progress: dict[str, Any]) -> None:
    """Writes a checkpoint, in the same format for any number of processes."""
    model, state = engine.whole(), engine.optimizer_state()
    if model is not None:
        save_checkpoint(
            run.folder / "checkpoints", steps_done, model, state, progress, run.objectives
        )


def _evaluate(
    run: Run,
    engine: Engine,
    steps_done: int,
    best_known: dict[str, float],
    progress: dict[str, Any],
    log: Log,
    forgetting: Forgetting,
) -> None:
    """Evaluates the model, and saves its weights if they are the best on the dev queries so far."""
    plain = engine.whole()
    if plain is not None:
        measured = dict(best_known)
        if run.dev is not None:
            measured.update(validate(plain, run.dev, run.trie, run.loop.beams, run.loop.score))
        if run.documents is not None:
            forgetting.see(
                ranks_of(plain, run.documents, run.trie, run.loop.beams, run.loop.score) == 1
            )
            progress["forgetting"] = forgetting.state()
            measured.update(forgetting.measures())
        log.evaluation(steps_done, measured)
        best = progress.get("best", {}).get(SELECTION_MEASURE, -1.0)
        if run.dev is not None and measured[SELECTION_MEASURE] > best:
            progress["best"] = {"step": steps_done, **measured}
            with replacing_folder(run.folder / "best") as fresh:
                save_model(plain, str(fresh / "model.safetensors"))
                write_json(fresh / "dev.json", progress["best"])
    engine.accelerator.wait_for_everyone()
