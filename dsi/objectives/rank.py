"""Rank losses over a teacher's candidates (LTRGR, Li et al. 2023; ListMLE, Xia et al. 2008)."""

from __future__ import annotations

import torch

from dsi.objectives.base import OBJECTIVES, Forward
from dsi.objectives.candidates import Candidates, TeacherObjective
from dsi.teachers.scores import TeacherScores


@OBJECTIVES.register("rank")
class Rank(TeacherObjective):
    """Ranks the right document above the teacher's candidates, by log-probability.

    Args:
        weight: Factor of the term.
        teacher_scores: Candidates and scores of the teacher.
        form: "margin" or "listmle".
        margin: The margin of form "margin".
    """

    name = "rank"

    def __init__(
        self,
        weight: float,
        teacher_scores: TeacherScores,
        form: str = "margin",
        margin: float = 1.0,
    ) -> None:
        super().__init__(weight, teacher_scores)
        self.form = form
        self.margin = margin

    def of_candidates(self, candidates: Candidates, forward: Forward) -> torch.Tensor:
        """Returns the sum over queries."""
        if self.form == "listmle":
            return list_likelihood(candidates.logs, candidates.teacher_scores)
        return margin_loss(candidates.logs, candidates.present, self.margin)


def margin_loss(scores: torch.Tensor, present: torch.Tensor, margin: float) -> torch.Tensor:
    """Returns LTRGR's two hinges, max(0, s(wrong) - s(right) + margin), summed over queries.

    One hinge is for the wrong document with the highest score, the other for a random wrong
    document; here the latter is its expectation, the mean over all of them.

    Args:
        scores: The right document first; float [queries, documents].
        present: Mask of existing documents; bool, same shape.
        margin: Not negative.
    """
    wrong = present[:, 1:]
    hinges = (scores[:, 1:] - scores[:, :1] + margin).clamp_min(0).masked_fill(~wrong, 0.0)
    mean = hinges.sum(dim=1) / wrong.sum(dim=1).clamp_min(1)
    return (mean + hinges.amax(dim=1)).sum()


def list_likelihood(scores: torch.Tensor, teacher_scores: torch.Tensor) -> torch.Tensor:
    """Returns the negative log-likelihood of the teacher's order, summed over queries.

    Documents are drawn one by one, each with probability softmax(scores) among those left: the
    right document first, the others by descending teacher score.

    Args:
        scores: The right document first; float [queries, documents].
        teacher_scores: The teacher's scores, -inf where there is no document; same shape.
    """
    order = torch.cat(
        [
            torch.zeros_like(teacher_scores[:, :1], dtype=torch.int64),
            1 + teacher_scores[:, 1:].argsort(dim=1, descending=True, stable=True),
        ],
        dim=1,
    )
    present = teacher_scores.gather(1, order) > -torch.inf
    ordered = scores.gather(1, order)
    masked = ordered.masked_fill(~present, torch.finfo(ordered.dtype).min)
    # The log-sum-exp over a document and all after it.
    tails = masked.flip(1).logcumsumexp(dim=1).flip(1)
    return (tails - ordered).masked_fill(~present, 0.0).sum()
