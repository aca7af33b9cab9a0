"""`view-batch`: a document appears less often, but in several views at once that must agree.

View-batch model (Kang et al., CVPR 2025). A batch of B examples has B / V documents in V views
each, so that a document recurs V times less often in the same number of steps. The first view, a
query if the document has one, teaches the others; p_i^j is the model's distribution for view j of
document i:

    weight / (B / V) / (V - 1) * sum_i sum_(j >= 2) KL(p_i^1 || p_i^j),    p_i^1 without gradient

mean over the codes of an identifier. The views of a document are its queries, its text and chunks
of the text. The authors add this term after some epochs; here it is used from the first step, since
the model of an update is already trained.
"""

from __future__ import annotations

import torch

from data_prep.errors import InputError
from dsi.objectives.base import IGNORED, Forward, Objective
from dsi.updating.plan import Plan
from dsi.updating.strategies.base import STRATEGIES, Strategy


def first_of(rows: torch.Tensor) -> torch.Tensor:
    """Returns for each example the first example with the same row; int64 [examples]."""
    same = rows[:, None] == rows[None, :]
    return same.int().argmax(dim=1)


def self_distillation(
    logits: torch.Tensor, codes: torch.Tensor, rows: torch.Tensor
) -> torch.Tensor:
    """Returns KL(p_first || p_other), mean over codes, summed over all views but the first.

    Args:
        logits: [examples, positions, alphabet].
        codes: `IGNORED` past the end; int64 [examples, positions].
        rows: Row of the document of each view; int64 [examples].
    """
    logs = logits.float().log_softmax(dim=-1)
    teacher = logs[first_of(rows)].detach()
    there = codes != IGNORED
    each = (teacher.exp() * (teacher - logs)).sum(dim=-1) * there
    return (each.sum(dim=1) / there.sum(dim=1)).sum()


class Agreement(Objective):
    """The divergence of the other views from the first.

    Args:
        weight: Weight of the term.
        views: V.
    """

    name = "view_batch"

    def __init__(self, weight: float, views: int) -> None:
        super().__init__(weight)
        self.views = views

    def of_examples(self, forward: Forward) -> torch.Tensor:
        """Sums over examples; the mean over B is that over B / V documents and V - 1 views."""
        found = self_distillation(forward.logits, forward.codes, forward.rows)
        return found * (self.views / (self.views - 1))


class ViewBatch(Strategy):
    """Samples batches by document, and adds the term."""

    name = "view-batch"
    role = "schedule"
    reads = frozenset({"view_batch"})
    excludes = frozenset({"finetune", "reindex"})  # they have one view per document

    def shape(self, plan: Plan) -> None:
        """Sets the number of views.

        Raises:
            InputError: The batch size is not a multiple of it, or is given in tokens.
        """
        options = plan.update.options.view_batch
        if plan.loop.size is None:
            raise InputError(
                "--strategy view-batch needs a batch size in examples, but the index was trained "
                "with a batch size in tokens",
                hint="Give --batch",
            )
        if plan.loop.size % options.views:
            raise InputError(
                f"--batch {plan.loop.size} is not a multiple of --view_batch.views {options.views}",
                hint="Change one of them",
            )
        plan.views = options.views
        if options.weight:
            plan.objectives.append(Agreement(options.weight, options.views))


STRATEGIES.register("view-batch")(ViewBatch())
