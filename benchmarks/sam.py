"""What does sharpness-aware minimization cost a step, how flat does it end, and what is forgotten?

    python benchmarks/sam.py cost --source PATH/TO/BEIR
    python benchmarks/sam.py forgetting --source PATH/TO/BEIR --seeds 3

`cost` times steps of one network, plain and perturbed, by turns in one process. `forgetting`
trains the indexing task alone (the first tokens of each document -> its docid) from scratch and
asks after every pass which documents the model names right. A forgetting event is a document
named right at one evaluation and wrong at the next (Toneva et al. 2019; DSI++, Mehta et al. 2023,
reports 12 points more documents without any under SAM). Sharpness is the loss at the perturbed
weights less the loss at the weights, at the end, over all documents, for rho 0.05 whatever trained
them.
"""

from __future__ import annotations

import argparse
import atexit
import copy
import math
import shutil
import statistics
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np
from record import cell, show
from runs import Clock, make_training_run

LENGTH = 16
"""Tokens of a document that are read: the paper has 32, two cores have less time."""

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sam": {"rho": 0.05},
    "asam": {"rho": 0.15, "adaptive": True},
    "sam-every-4": {"rho": 0.05, "every": 4},
    "sam-quarter-batch": {"rho": 0.05, "fraction": 0.25},
}


def main() -> None:
    """Measures the cells that are missing and prints the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("question", choices=["cost", "forgetting"])
    parser.add_argument("--source", required=True, help="what `dsi prepare` takes")
    parser.add_argument("--name", default=None, help="of the corpus; default: end of the path")
    parser.add_argument("--variants", default=None, help="default: all for cost; plain,sam,asam")
    parser.add_argument("--documents", type=int, default=None, help="from the first; default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=15)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--turns", type=int, default=5, help="of the blocks of cost")
    arguments = parser.parse_args()
    name = arguments.name or Path(arguments.source).name
    stem = f"{name}-{arguments.size}-batch{arguments.batch}"
    if arguments.question == "cost":
        found = cell("sam", f"cost-{stem}", lambda: cost(arguments))
        show(found["variants"], ["variant", "CPU seconds per step", "times plain"])
        return
    rows = []
    for variant in (arguments.variants or "plain,sam,asam").split(","):
        entries = [
            cell(
                "sam",
                f"forgetting-{stem}-lr{arguments.lr:g}-{arguments.passes}passes-{variant}-seed{seed}",
                lambda variant=variant, seed=seed: forgetting(arguments, variant, seed),
            )
            for seed in range(arguments.seeds)
        ]
        row: dict[str, Any] = {"variant": variant, "seeds": len(entries)}
        for key in ("never forgotten", "events per document", "memorized", "loss", "sharpness"):
            values = [entry[key] for entry in entries]
            row[key] = statistics.mean(values)
            row[f"{key} sd"] = statistics.stdev(values) if len(values) > 1 else 0.0
        rows.append(row)
    show(rows, list(rows[0]))


def options_of(arguments: argparse.Namespace, steps: int, variant: str, seed: int) -> Any:
    """Returns the options of one training of the indexing task."""
    from dsi.data.options import MixOptions
    from dsi.indexing.options import TrainingOptions
    from dsi.training.options import LoopOptions, ModelOptions, OptimizerOptions, SamOptions

    return TrainingOptions(
        generator="none",
        seed=seed,
        model=ModelOptions(size=arguments.size, warm_start="none"),
        mix=MixOptions(indexing=1.0, pseudo=0.0, labeled=0.0, document_length=LENGTH),
        optimizer=OptimizerOptions(backbone_lr_scale=1.0, lr=arguments.lr, schedule="constant"),
        loop=LoopOptions(steps=steps, batch=arguments.batch, checkpoint_every=10**6),
        sam=SamOptions(**VARIANTS[variant]),
    )


def cost(arguments: argparse.Namespace) -> dict[str, Any]:
    """Times blocks of steps, variant after variant, again and again.

    What is timed is what the process computes, so that neighbors on the machine count little; with
    a GPU, the time on the clock.
    """
    import torch

    from dsi.training.loop import train_loop

    steps, warm = 12, 4
    with TemporaryDirectory() as folder:
        base = make_training_run(
            arguments.source,
            Path(folder),
            options_of(arguments, steps, "plain", 0),
            arguments.documents,
        )
        base = replace(base, dev=None)
        weights = copy.deepcopy(base.model.state_dict())
        variants = list(VARIANTS) if arguments.variants is None else arguments.variants.split(",")
        times: dict[str, list[float]] = {variant: [] for variant in variants}
        for _ in range(arguments.turns):
            for variant in variants:
                base.model.load_state_dict(weights)
                clock = Clock()
                sam = options_of(arguments, steps, variant, 0).sam
                train_loop(replace(base, sam=sam, objectives=[*base.objectives, clock]))
                # Whole rounds of every=4 are timed.
                seen = clock.ended if torch.cuda.is_available() else clock.computed
                passed = seen[-1] - seen[warm - 1]
                times[variant].append(passed / (steps - warm))
    plain = statistics.median(times["plain"])
    rows = [
        {
            "variant": variant,
            "CPU seconds per step": statistics.median(blocks),
            "times plain": statistics.median(blocks) / plain,
            # Each block beside the plain one of its own turn, which shared its circumstances.
            "times plain, by turns": [b / p for b, p in zip(blocks, times["plain"], strict=True)],
        }
        for variant, blocks in times.items()
    ]
    return {"settings": {**vars(arguments), "source": ""}, "variants": rows}


def forgetting(arguments: argparse.Namespace, variant: str, seed: int) -> dict[str, Any]:
    """Trains once and counts."""
    from dsi.training.loop import train_loop

    with TemporaryDirectory() as folder:
        (Path(folder) / "dataset").symlink_to(prepared(arguments.source).resolve() / "dataset")
        (Path(folder) / "run").mkdir()
        for part in ("text", "docids"):  # neither depends on the seed
            shutil.copytree(prepared(arguments.source) / "run" / part, f"{folder}/run/{part}")
        run = make_training_run(
            arguments.source, Path(folder), options_of(arguments, 1, variant, seed)
        )
        examples = run.batches.examples["indexing"]
        interval = math.ceil(len(examples) / arguments.batch)
        loop = replace(run.loop, steps=interval * arguments.passes)
        history: list[np.ndarray] = []

        def watch(model: Any, step: int) -> None:
            if (step + 1) % interval == 0:
                history.append(named_right(model, run))

        clock = Clock(watch)
        run = replace(run, dev=None, loop=loop, objectives=[*run.objectives, clock])
        reached = train_loop(run)
        plain, sharp = sharpness(run)
    right = np.stack(history)
    events = (right[:-1] & ~right[1:]).sum(axis=0)
    return {
        "settings": {**vars(arguments), "source": ""},
        "variant": variant,
        "seed": seed,
        "memorized": float(right[-1].mean()),
        "never forgotten": float((events == 0).mean()),
        # Of those that were memorized at some evaluation: the others cannot be forgotten.
        "never forgotten of memorized": float((events[right.any(axis=0)] == 0).mean()),
        "events per document": float(events.mean()),
        "loss": plain,
        "sharpness": sharp,
        "training loss": reached["loss"],
        "minutes": (clock.ended[-1] - clock.ended[0]) / 60,
        "sam": VARIANTS[variant],
    }


@cache
def prepared(source: str) -> Path:
    """Returns a folder with the dataset, the vocabulary and the identifiers, made once."""
    folder = Path(mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    defaults = argparse.Namespace(size="tiny", batch=1, lr=1.0)
    make_training_run(source, folder, options_of(defaults, 1, "plain", 0))
    return folder


def named_right(model: Any, run: Any) -> np.ndarray:
    """Tells of each document whether the most probable docid is its own; bool [documents]."""
    import torch

    right = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16(run)):
        model.eval()
        for batch in batches_of_all(run):
            start = torch.zeros((len(batch), 1), dtype=torch.int64)
            logits = model(
                input_ids=torch.from_numpy(batch.input_ids),
                attention_mask=torch.from_numpy(batch.attention_mask),
                decoder_input_ids=start,
                use_cache=False,
            ).logits[:, 0]
            codes = run.targets.codes[torch.from_numpy(batch.rows), 0]
            right.append((logits.argmax(-1) == codes).numpy())
        model.train()
    return np.concatenate(right)


def sharpness(run: Any) -> tuple[float, float]:
    """Returns the mean loss over all documents, and how much more it is at w + e, rho 0.05."""
    import torch

    from dsi.objectives.base import Forward
    from dsi.objectives.cross_entropy import CrossEntropy
    from dsi.training.optimization.sam import Perturbation, WholeWeights

    model = run.model
    count = len(run.batches.examples["indexing"])

    def loss(gradients: bool) -> float:
        total = 0.0
        for batch in batches_of_all(run):
            with torch.set_grad_enabled(gradients):
                summed = CrossEntropy().of_examples(Forward(model, batch, run.targets))
            assert summed is not None
            if gradients:
                (summed / count).backward()
            total += float(summed.detach()) / count
        return total

    model.zero_grad()
    here = loss(gradients=True)
    with Perturbation(WholeWeights(model.parameters()), rho=0.05).applied():
        there = loss(gradients=False)
    return here, there - here


def bf16(run: Any) -> bool:
    """Tells whether training computed in bf16."""
    from dsi.training.loop import hardware_precision

    return hardware_precision(run.loop.precision) == "bf16"


def batches_of_all(run: Any) -> list[Any]:
    """Returns all documents in batches, in the order of the examples."""
    numbers = range(len(run.batches.examples["indexing"]))
    return [
        run.batches._collate([("indexing", number) for number in numbers[start : start + 256]])
        for start in range(0, len(numbers), 256)
    ]


if __name__ == "__main__":
    main()
