"""Forward and backward pass of one step: the loss of its examples and its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dsi.data.batching import Batch
from dsi.objectives.base import Forward, Objective, Targets
from dsi.training.engines.base import Engine


@dataclass(frozen=True)
class StepLoss:
    """The loss of a step, over all its parts and processes.

    Attributes:
        loss: Weighted sum of the terms, averaged over examples.
        terms: Unweighted value of each term, by name.
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
    """Accumulates the gradients of one step's loss in the engine.

    It can be called again with the same arguments, at other weights; dropout draws from torch's
    generator. No weight is changed.

    Args:
        engine: The model in training.
        parts: This process's micro-batches; all processes have the same number.
        objectives: Terms of the loss.
        targets: Identifiers, on the model's device.
        examples: Number of examples of the step, over all parts and processes.
        step: Current step, from 0.
        steps: Total number of steps.
        own: Whether gradients stay local to each process.
        groups: Number of passes per part, each over texts of similar length, so that less time goes
            into padding; the same in every process. Always one if a term compares the examples of a
            part with each other.
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
                    # Mean over the whole step, independent of the number of parts and processes;
                    # DDP averages over processes, where a sum is needed.
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
