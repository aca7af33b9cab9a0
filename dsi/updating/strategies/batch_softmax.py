"""`batch-softmax`: identifiers compete with those of the batch only, by cosine.

PCR (Lin et al., CVPR 2023): with states f and output rows w of length 1 and a temperature tau,

    L = - mean_i log [ exp(<f_i, w_(y_i)> / tau) / sum_j exp(<f_i, w_(y_j)> / tau) ]

with j over the batch. A document outside the batch is not pushed down; with the full softmax, this
is how the rows of old documents lose to new ones. Labels that occur several times in the batch
count several times. With identifiers of several codes, the softmax at each position is over the
batch's codes at that position.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from dsi.objectives.base import IGNORED, Forward, Objective
from dsi.updating.plan import Plan
from dsi.updating.strategies.base import STRATEGIES, Strategy


class BatchSoftmax(Objective):
    """Cross-entropy over cosines with the codes of the batch, instead of the usual one.

    Args:
        temperature: tau.
    """

    name = "batch_softmax"
    hidden_states = True
    whole_batch = True

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def of_examples(self, forward: Forward) -> torch.Tensor:
        """Sums over codes and examples."""
        model: Any = getattr(forward.model, "module", forward.model)
        rows = functional.normalize(model.get_output_embeddings().weight.float(), dim=-1)
        states = functional.normalize(forward.decoder_states.float(), dim=-1)
        return batch_softmax(states, forward.codes, rows, self.temperature)


def batch_softmax(
    states: torch.Tensor, codes: torch.Tensor, rows: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Returns the loss, summed over codes and examples.

    Args:
        states: Normalized states; [examples, positions, width].
        codes: Target codes, `IGNORED` past the end; int64 [examples, positions].
        rows: Normalized output rows; [alphabet, width].
        temperature: tau.
    """
    total = states.new_zeros(())
    for place in range(codes.shape[1]):
        there = codes[:, place] != IGNORED
        mine = codes[there, place]
        scores = states[there, place] @ rows[mine].T / temperature
        total = total + functional.cross_entropy(
            scores, torch.arange(len(mine), device=scores.device), reduction="sum"
        )
    return total


class Pcr(Strategy):
    """Replaces cross-entropy with the softmax over the batch."""

    name = "batch-softmax"
    role = "loss"
    reads = frozenset({"batch_softmax"})
    plain_head = True

    def shape(self, plan: Plan) -> None:
        """Replaces the main term of the loss."""
        plan.main = BatchSoftmax(plan.update.options.batch_softmax.temperature)


STRATEGIES.register("batch-softmax")(Pcr())
