"""Worker of test_engines.py, one of two processes: trains with every engine, records the result.

torchrun --nproc_per_node 2 engines_on_two.py FOLDER
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import T5Config, T5ForConditionalGeneration

from dsi.backbones.backbone import set_docid_alphabet
from dsi.data.batching import Batch
from dsi.distributed.deepspeed import read_zero_config
from dsi.distributed.processes import Processes
from dsi.objectives.base import Objective, Targets
from dsi.objectives.cross_entropy import CrossEntropy
from dsi.training.checkpoints import load_checkpoint, save_checkpoint
from dsi.training.engines import Engine
from dsi.training.engines.plain import PlainEngine
from dsi.training.engines.zero import ZeroEngine, zero_accelerator
from dsi.training.optimization.optimizers import make_optimizer
from dsi.training.optimization.sam import Perturbation
from dsi.training.options import OptimizerOptions
from dsi.training.step import backward_step

CODES = np.array([[2, 3, 1], [4, 1, 0], [5, 6, 1]], np.int32)
OPTIONS = OptimizerOptions(lr=1e-3, backbone_lr_scale=0.5, warmup=0, clip=0.5)
STEPS, SAVED = 5, 3
EXAMPLES = 5
CONFIGS = Path(__file__).parents[3] / "configs" / "deepspeed"
ENGINES = ["ddp", "zero1", "zero2", "zero3", "zero3-offload"]
PERTURBED = {"plain": None, "global": False, "process": True}
"""Name -> whether each process perturbs with its local gradients; None: no SAM."""


def network() -> Any:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=9, d_model=16, d_kv=4, num_heads=2, d_ff=18, num_layers=1, dropout_rate=0.0
    )
    return set_docid_alphabet(T5ForConditionalGeneration(config), 9, 7)


def batch_of(step: int, places: list[int]) -> Batch:
    """Returns some of the five examples of a step, whose lengths differ."""
    lines = []
    for place in places:
        rng = np.random.default_rng([step, place])
        lines.append(rng.integers(2, 9, 2 + place))
    ids = np.zeros((len(lines), max(map(len, lines))), np.int64)
    mask = np.zeros_like(ids)
    for row, line in enumerate(lines):
        ids[row, : len(line)], mask[row, : len(line)] = line, 1
    rows = np.array([place % 3 for place in places])
    return Batch(ids, mask, rows, np.zeros(len(places), bool), np.array(places))


def parts_of(step: int, rank: int, count: int) -> list[Batch]:
    """Returns a process's two micro-batches: 2 and 1 examples, or 1 and 1."""
    places = list(range(EXAMPLES))
    return [batch_of(step, places[rank * 2 + part :: count * 2]) for part in range(2)]


def targets() -> Targets:
    return Targets.of(CODES, 7, None)


def make_engine(
    name: str, folder: Path | None = None, model: Any = None, precision: str = "fp32"
) -> tuple[Engine, int]:
    AcceleratorState._reset_state()
    model = network() if model is None else model
    optimizer = make_optimizer(model, OPTIONS)
    if name == "ddp":
        mixed = "no" if precision == "fp32" else precision
        accelerator = Accelerator(cpu=True, mixed_precision=mixed)
    else:
        config = read_zero_config(CONFIGS / f"{name}.json")
        accelerator = zero_accelerator(config, precision, 2)
    start = load_checkpoint(folder, model, optimizer)[0] if folder else 0
    if name == "ddp":
        return PlainEngine(accelerator, model, optimizer), start
    return ZeroEngine(accelerator, model, optimizer, OPTIONS.clip), start


def digest(engine: Engine) -> str:
    """Returns a digest of every bit of the network as this process holds it, and of the master."""
    found = hashlib.sha256()
    for weight in engine.network.parameters():
        found.update(getattr(weight, "ds_tensor", weight.data).contiguous().numpy().tobytes())
    if isinstance(engine, ZeroEngine):
        for piece in engine._master():
            found.update(piece.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def train(
    engine: Engine,
    start: int,
    stop: int,
    own: bool | None,
    objectives: Sequence[Objective] = (CrossEntropy(),),
) -> Iterator[bool]:
    """Makes steps; yields for each whether un-perturbed weights had their old bits."""
    rank, count = engine.accelerator.process_index, engine.accelerator.num_processes
    perturbation = None
    if own is not None:
        names = [name for name, weight in engine.network.named_parameters() if weight.requires_grad]
        perturbation = Perturbation(engine.shards(names, own=own), rho=0.05)
    engine.model.train()
    for step in range(start, stop):
        for group in engine.param_groups:
            group["lr"] = OPTIONS.lr * group["share"]

        def gradients(step: int = step, own: bool = False) -> None:
            backward_step(
                engine,
                parts_of(step, rank, count),
                objectives,
                targets(),
                examples=EXAMPLES,
                step=step,
                steps=STEPS,
                own=own,
            )

        if perturbation is None:
            gradients()
            engine.step(OPTIONS.clip)
            yield True
            continue
        gradients(own=bool(own))
        before = digest(engine)
        with perturbation.applied():
            gradients()
            assert digest(engine) != before
        kept = digest(engine) == before
        engine.step(OPTIONS.clip)
        yield kept


def main(folder: Path) -> None:
    processes = Processes()
    notes = {}
    for name in ENGINES:
        for form, own in PERTURBED.items():
            if own and name.startswith("zero3"):
                continue
            if form != "global" and name == "zero3-offload":
                continue
            engine, _ = make_engine(name)
            kept = list(train(engine, 0, SAVED, own))
            model, state = engine.whole(), engine.optimizer_state()
            if model is not None:
                save_checkpoint(folder / f"{name}-{form}", SAVED, model, state, {})
            kept += list(train(engine, SAVED, STEPS, own))
            notes[f"{name}-{form}"] = kept
            model = engine.whole()
            if model is not None:
                torch.save(model.state_dict(), folder / f"{name}-{form}.pt")
        # From the checkpoint of one process.
        engine, start = make_engine(name, folder / "one-global")
        assert start == SAVED
        list(train(engine, start, STEPS, False))
        model = engine.whole()
        if model is not None:
            torch.save(model.state_dict(), folder / f"{name}-resumed.pt")
    (folder / f"notes-{processes.rank}.json").write_text(json.dumps(notes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    from dsi.distributed.processes import leave

    leave(0)
