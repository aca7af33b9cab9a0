"""`view-batch`: a document comes seldom, but in several views at once that must agree.

View-batch model (Kang et al., CVPR 2025). A batch of B examples has B / V documents in V views
each, so that a document's next turn comes V times later, after as many steps as before. The first
view, a query where the document has one, teaches the others, with p_i^j what the model says of view
j of document i:

    weight / (B / V) / (V - 1) * sum_i sum_(j >= 2) KL(p_i^1 || p_i^j),    p_i^1 without gradient

mean over the codes of an identifier. Views are what there is of a document: its queries, its text
and chunks of it. The authors begin with this term after some epochs; here it counts from the first
step, since the model of an update is trained already.
"""

from __future__ import annotations

import torch

from data_prep.errors import InputError
from dsi.objectives.base import IGNORED, Forward, Objective
from dsi.updating.strategies.base import STRATEGIES, Plan, Strategy


def first_of(rows: torch.Tensor) -> torch.Tensor:
    """Returns for each place of a batch the first place with the same row; int64 [examples]."""
    same = rows[:, None] == rows[None, :]
    return same.int().argmax(dim=1)


def self_distillation(
    logits: torch.Tensor, codes: torch.Tensor, rows: torch.Tensor
) -> torch.Tensor:
    """Returns KL(p_first || p_other), mean over codes, summed over all views but the first.

    Args:
        logits: [examples, positions, alphabet].
        codes: `IGNORED` past the end; int64 [examples, positions].
        rows: Which document each is a view of; int64 [examples].
    """
    logs = logits.float().log_softmax(dim=-1)
    teacher = logs[first_of(rows)].detach()
    there = codes != IGNORED
    each = (teacher.exp() * (teacher - logs)).sum(dim=-1) * there
    return (each.sum(dim=1) / there.sum(dim=1)).sum()


class Agreement(Objective):
    """The divergence of the other views from the first.

    Args:
        weight: What the term is multiplied with.
        views: V.
    """

    name = "view_batch"

    def __init__(self, weight: float, views: int) -> None:
        super().__init__(weight)
        self.views = views

    def of_examples(self, forward: Forward) -> torch.Tensor:
        """Sums over examples, so that the mean over B is that over B / V documents and V - 1."""
        found = self_distillation(forward.logits, forward.codes, forward.rows)
        return found * (self.views / (self.views - 1))


class ViewBatch(Strategy):
    """Has batches drawn by documents, and adds the term."""

    name = "view-batch"
    role = "schedule"
    reads = frozenset({"view_batch"})
    excludes = frozenset({"finetune", "reindex"})  # which have one view of a document

    def shape(self, plan: Plan) -> None:
        """Sets the number of views.

        Raises:
            InputError: The batch is no multiple of it, or counts tokens.
        """
        options = plan.update.options.view_batch
        if plan.loop.size is None:
            raise InputError(
                "--strategy view-batch needs batches of so many examples, and the index was "
                "trained on batches of so many tokens",
                hint="Give --batch",
            )
        if plan.loop.size % options.views:
            raise InputError(
                f"--batch {plan.loop.size} is no multiple of --view_batch.views {options.views}",
                hint="Change one of them",
            )
        plan.views = options.views
        if options.weight:
            plan.objectives.append(Agreement(options.weight, options.views))


STRATEGIES.register("view-batch")(ViewBatch())
