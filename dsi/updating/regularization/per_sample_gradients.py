"""Examples of old documents and their per-sample gradients, for regularizers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from dsi.backbones.inference import evaluating
from dsi.data.batching import Batch, Batches
from dsi.data.examples import per_identifier
from dsi.objectives.base import IGNORED, Targets, decoder_inputs
from dsi.updating.data.gathering import gather
from dsi.updating.plan import Plan


def old_batches(plan: Plan, count: int, size: int) -> list[Batch]:
    """Samples examples of old documents: queries if there are any, otherwise texts.

    They cover all earlier corpora, including the first one.

    Args:
        plan: The plan.
        count: Total number of examples.
        size: Batch size.
    """
    queries = dict(plan.queries) or ({"pseudo": 1.0} if plan.update.generator else {})
    asking = Plan(plan.update, plan.model, plan.optimizer, plan.loop, queries=queries, old=True)
    table = plan.update.assignment.table
    tasks = {
        name: per_identifier(some, table)
        for name, some in gather(asking).items()
        if name.endswith("/old")
    }
    asked = {name: some for name, some in tasks.items() if not name.startswith("indexing")}
    chosen = asked or tasks
    count = min(count, sum(map(len, chosen.values())))
    if not count:
        return []
    size = min(size, count)
    shares = dict.fromkeys(chosen, 1.0)
    drawn = Batches(chosen, shares, size, plan.update.options.seed + 1)
    return [drawn.parts(step, 1)[0] for step in range(count // size)]


def targets_of(plan: Plan) -> Targets:
    """Returns the identifiers, on the CPU, with a softmax over all codes."""
    table = plan.update.assignment.table
    return Targets.of(table.matrix(), table.alphabet_size, None)


def log_probability(model: torch.nn.Module, batch: Batch, targets: Targets) -> torch.Tensor:
    """Returns the summed log-probability of the identifiers of a batch, a scalar."""
    codes = targets.codes[torch.from_numpy(batch.rows)]
    codes = codes[:, : int((codes != IGNORED).sum(dim=1).max())]
    logits = model(
        input_ids=torch.from_numpy(batch.input_ids),
        attention_mask=torch.from_numpy(batch.attention_mask),
        decoder_input_ids=decoder_inputs(codes),
        use_cache=False,
    ).logits
    logs = logits.float().log_softmax(dim=-1)
    picked = logs.gather(-1, codes.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    return (picked * (codes != IGNORED)).sum()


def trained_weights(plan: Plan) -> dict[str, torch.nn.Parameter]:
    """Returns the weights that the update trains, by name."""
    from dsi.training.optimization.optimizers import make_optimizer

    make_optimizer(plan.model, plan.optimizer)  # sets `requires_grad`
    return {name: weight for name, weight in plan.model.named_parameters() if weight.requires_grad}


def per_sample_gradients(
    model: PreTrainedModel,
    weights: dict[str, torch.nn.Parameter],
    batches: Sequence[Batch],
    targets: Targets,
) -> Iterator[dict[str, torch.Tensor]]:
    """Yields the gradient of log p(identifier | text) of each example.

    Args:
        model: The model; dropout is off for the duration.
        weights: Weights to differentiate by, by name.
        batches: Batches of one example each.
        targets: The identifiers.
    """
    with evaluating(model, torch.enable_grad):
        for batch in batches:
            if len(batch) != 1:
                raise ValueError(f"a batch of {len(batch)} examples has no gradient of one")
            gradients = torch.autograd.grad(
                log_probability(model, batch, targets), list(weights.values()), allow_unused=True
            )
            yield {
                name: torch.zeros_like(weight) if gradient is None else gradient
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
            }


def is_old(plan: Plan) -> torch.Tensor:
    """Returns which identifiers belong to old documents; bool [identifiers]."""
    table = plan.update.assignment.table
    old = ~plan.update.is_new() & ~np.asarray(table.retired)
    return torch.from_numpy(old[table.owners])
