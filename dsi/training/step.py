"""Forward and backward of one step: what its examples cost, and the gradients of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dsi.data.batching import Batch
from dsi.objectives.base import Forward, Objective, Targets
from dsi.training.engines.base import Engine


@dataclass(frozen=True)
class StepLoss:
    """What a step cost, over all its parts and processes.

    Attributes:
        loss: The weighted sum of the terms, mean over examples.
        terms: Each term by name, without its weight.
    """

    loss: float
    terms: dict[str, float]


def backward_step(
    engine: Engine,
    parts: Sequence[Batch],
    objectives: Sequence[Objective],
    targets: Targets,
    *,
    examples: int,
    step: int,
    steps: int,
    own: bool = False,
    groups: int = 1,
) -> StepLoss:
    """Adds the gradients of one step's loss to those the engine has.

    Called again with the same arguments it does the same again, at whatever the weights then
    are; dropout draws from torch's generator. No weight is changed.

    Args:
        engine: The model in training.
        parts: This process's micro-batches, as many in every process.
        objectives: The terms.
        targets: The identifiers, on the model's device.
        examples: How many examples the step has, over all parts and processes.
        step: Which step, from 0.
        steps: How many there will be.
        own: Whether gradients stay each process's own.
        groups: How many passes each part takes, with texts of similar lengths in each, so that
            less is computed on padding; as many in every process. One, whatever it says, where a
            term looks at the examples of a part together.
    """
    if any(objective.whole_batch for objective in objectives):
        groups = 1
    parts = [group for part in parts for group in part.by_length(groups)]
    processes = engine.accelerator.num_processes
    hidden_states = any(objective.hidden_states for objective in objectives)
    values = torch.zeros(1 + len(objectives), device=targets.codes.device)
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        with engine.part(last=last, own=own) as model:
            forward = Forward(
                model, part, targets, step=step, steps=steps, hidden_states=hidden_states
            )
            loss: torch.Tensor | None = None
            for place, objective in enumerate(objectives, 1):
                summed = objective.of_examples(forward)
                terms = []
                if summed is not None:
                    # Mean over the whole step, so that parts and processes do not change it;
                    # DDP averages over processes what here must be summed.
                    terms.append(summed * (processes / examples))
                if last and (constant := objective.of_weights(engine.network)) is not None:
                    terms.append(constant)
                for term in terms:
                    values[place] += term.detach()
                    weighted = term if objective.weight == 1 else term * objective.weight
                    loss = weighted if loss is None else loss + weighted
            if loss is not None and loss.requires_grad:
                engine.backward(loss, own=own)
                values[0] += loss.detach()
    shared = engine.accelerator.reduce(values, "mean").tolist()
    names = [objective.name for objective in objectives]
    return StepLoss(shared[0], dict(zip(names, shared[1:], strict=True)))
