"""Worker of test_combinations.py: adapters and second passes under every engine.

The same code runs in one process, whose results two processes must match.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import engines_on_two as two
import torch

from dsi.objectives.base import Forward, Objective
from dsi.objectives.cross_entropy import CrossEntropy
from dsi.objectives.r_drop import symmetric_divergence
from dsi.training.optimization.lora import add_adapters
from dsi.training.options import LoraOptions


class Twice(Objective):
    """R-Drop's divergence between the pass that is shared and one over other texts.

    What it costs does not depend on chance, so that processes can be compared.
    """

    name = "twice"

    def of_examples(self, forward: Forward) -> torch.Tensor:
        other = forward.run(input_ids=(forward.input_ids + 1) % 9)
        return symmetric_divergence(forward.logits, other.logits, forward.codes)


class Case(NamedTuple):
    engine: str
    lora: bool = False
    twice: bool = False
    sam: bool = False
    checkpointing: bool = False
    precision: str = "fp32"

    @property
    def name(self) -> str:
        marks = [key for key in ("lora", "twice", "sam", "checkpointing") if getattr(self, key)]
        return "-".join([self.engine, *marks, self.precision])

    @property
    def alone(self) -> Case:
        """What one process does."""
        return self._replace(engine="ddp")


CASES = [
    # DDP first: DeepSpeed's settings persist in a process.
    Case("ddp", lora=True, sam=True),
    Case("ddp", twice=True, sam=True),
    Case("ddp", twice=True, checkpointing=True),
    Case("ddp", lora=True, twice=True, sam=True, checkpointing=True),
    Case("ddp", twice=True, sam=True, precision="bf16"),
    Case("zero1", lora=True),
    Case("zero2", lora=True, sam=True),
    Case("zero3", lora=True),
    Case("zero3", lora=True, sam=True),
    Case("zero1", twice=True),
    Case("zero1", twice=True, sam=True),
    Case("zero2", twice=True, sam=True, checkpointing=True),
    Case("zero3", twice=True),
    Case("zero3", twice=True, sam=True),
    Case("zero2", twice=True, precision="bf16"),
]


def trained(case: Case) -> dict[str, torch.Tensor] | None:
    """Returns the weights after five steps, in the first process."""
    model: Any = two.network()
    if case.lora:
        add_adapters(model, LoraOptions(rank=2), seed=0)
    if case.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    engine, _ = two.make_engine(case.engine, model=model, precision=case.precision)
    terms: list[Objective] = [CrossEntropy(), Twice(0.5)] if case.twice else [CrossEntropy()]
    kept = list(two.train(engine, 0, two.STEPS, False if case.sam else None, terms))
    assert all(kept)
    whole = engine.whole()
    return None if whole is None else {k: v.clone() for k, v in whole.state_dict().items()}


def main(folder: Path) -> None:
    """Trains every case, and leaves weights or the error of each."""
    from dsi.distributed.processes import Processes

    rank = Processes().rank
    failed = {}
    for case in CASES:
        try:
            weights = trained(case)
        except Exception as error:
            failed[case.name] = f"{type(error).__name__}: {error}"
            continue
        if weights is not None:
            assert all(math.isfinite(float(value.sum())) for value in weights.values())
            torch.save(weights, folder / f"{case.name}.pt")
    (folder / f"failed-{rank}.json").write_text(json.dumps(failed))
