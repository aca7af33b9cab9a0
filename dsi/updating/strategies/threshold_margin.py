"""`threshold-margin`: keeps the decoder's states for old queries on their side of thresholds.

GeRe (arXiv 2508.04676): for a fixed set of inputs, the states h* before the update and their mean
and deviation over the set, mu and sigma for each dimension, give two thresholds, pos = mu + sigma
and neg = mu - sigma. A state h of the trained model should stay on the side of h*:

    h* >= pos:  relu(pos - h)
    h* <= neg:  relu(h - neg)
    else:       relu(h - pos) + relu(neg - h)

The term is the sum of these divided by the number of nonzero ones. Here the inputs are queries of
old documents, and the states are the inputs to the output layer at each code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from dsi.backbones.inference import evaluating
from dsi.data.batching import Batch
from dsi.objectives.base import IGNORED, Objective, Targets, decoder_inputs
from dsi.updating.plan import Plan
from dsi.updating.regularization.per_sample_gradients import old_batches, targets_of
from dsi.updating.strategies.base import STRATEGIES, Strategy


def threshold_margin(
    states: torch.Tensor, before: torch.Tensor, high: torch.Tensor, low: torch.Tensor
) -> torch.Tensor:
    """Returns GeRe's threshold-margin loss, a scalar.

    Args:
        states: States of the trained model; [states, width].
        before: States of the model before the update; same shape.
        high: The upper threshold of each dimension; [width].
        low: The lower threshold.
    """
    above, below = before >= high, before <= low
    between = ~(above | below)
    over, under = torch.relu(states - high), torch.relu(low - states)
    loss = (
        torch.relu(high - states) * above
        + torch.relu(states - low) * below
        + (over + under) * between
    )
    return loss.sum() / ((loss.detach() != 0).sum() + 1e-8)


class ThresholdMargin(Objective):
    """The loss on a fixed set of batches, used in turn.

    Args:
        weight: Weight of the term.
        batches: The inputs.
        targets: The identifiers.
        model: The model before the update.
    """

    name = "threshold_margin"

    def __init__(
        self,
        weight: float,
        batches: Sequence[Batch],
        targets: Targets,
        model: torch.nn.Module,
    ) -> None:
        super().__init__(weight)
        self.inputs = [_inputs(batch, targets) for batch in batches]
        with evaluating(model, torch.no_grad):
            self.before = [_states(model, inputs) for inputs in self.inputs]
        everything = torch.cat(self.before)
        mean, deviation = everything.mean(dim=0), everything.std(dim=0)
        self.high, self.low = mean + deviation, mean - deviation
        self.step = 0

    def prepare(self, device: torch.device) -> None:
        """Moves inputs, states and thresholds to the device."""
        self.inputs = [
            {name: value.to(device) for name, value in inputs.items()} for inputs in self.inputs
        ]
        self.before = [value.to(device) for value in self.before]
        self.high, self.low = self.high.to(device), self.low.to(device)

    def of_weights(self, model: torch.nn.Module) -> torch.Tensor:
        """Returns the loss on the current batch."""
        turn = self.step % len(self.inputs)
        states = _states(model, self.inputs[turn])
        return threshold_margin(states, self.before[turn], self.high, self.low)

    def after_step(self, model: torch.nn.Module, step: int) -> None:
        """Advances to the next batch."""
        self.step = step + 1

    def state(self) -> dict[str, torch.Tensor]:
        """Returns the number of the current batch."""
        return {"step": torch.tensor(self.step)}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restores it."""
        self.step = int(state["step"])


def _inputs(batch: Batch, targets: Targets) -> dict[str, torch.Tensor]:
    codes = targets.codes[torch.from_numpy(batch.rows)]
    codes = codes[:, : int((codes != IGNORED).sum(dim=1).max())]
    return {
        "input_ids": torch.from_numpy(batch.input_ids),
        "attention_mask": torch.from_numpy(batch.attention_mask),
        "decoder_input_ids": decoder_inputs(codes),
        "there": codes != IGNORED,
    }


def _states(model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Inputs to the output layer at every code of the batch; float32 [codes, width]."""
    given = {name: value for name, value in inputs.items() if name != "there"}
    found = model(**given, use_cache=False, output_hidden_states=True)
    return found.decoder_hidden_states[-1][inputs["there"]].float()


class GeReMargin(Strategy):
    """Adds the term for a fixed set of queries of old documents."""

    name = "threshold-margin"
    role = "loss"
    reads = frozenset({"margin"})

    def shape(self, plan: Plan) -> None:
        """Records the states before the first step."""
        options = plan.update.options.margin
        batches = old_batches(plan, options.samples, options.batch)
        if batches:
            plan.objectives.append(
                ThresholdMargin(options.weight, batches, targets_of(plan), plan.model)
            )


STRATEGIES.register("threshold-margin")(GeReMargin())
