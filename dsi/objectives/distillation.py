"""Imitation of a retriever: the model's distribution over documents follows the teacher's."""

from __future__ import annotations

import torch
from torch.nn import functional

from dsi.objectives.base import OBJECTIVES, Forward
from dsi.objectives.candidates import Candidates, TeacherObjective
from dsi.teachers.scores import TeacherScores


@OBJECTIVES.register("distillation")
class Distillation(TeacherObjective):
    """KL(t || p) for each query (Hinton et al. 2015), t = softmax(teacher's scores / temperature).

    Over candidates, p is the softmax of the candidates' log-probabilities. Over all, p is the
    model's probability of each identifier among all possible ones: for identifiers of one code, the
    softmax over the output rows.

    Args:
        weight: Factor of the term.
        teacher_scores: Candidates and scores of the teacher.
        over: "all", "candidates" or "auto": all for identifiers of one code.
    """

    name = "distillation"

    def __init__(self, weight: float, teacher_scores: TeacherScores, over: str = "auto") -> None:
        super().__init__(weight, teacher_scores)
        self.over = over

    def of_candidates(self, candidates: Candidates, forward: Forward) -> torch.Tensor:
        """Returns the sum over queries."""
        over = self.over
        if over == "auto":
            over = "all" if forward.targets.codes.shape[1] == 1 else "candidates"
        logs = candidates.logs
        if over == "candidates":
            logs = functional.log_softmax(logs.masked_fill(~candidates.present, -torch.inf), dim=-1)
        return divergence(candidates.teacher_scores, logs)


def divergence(teacher_scores: torch.Tensor, logs: torch.Tensor) -> torch.Tensor:
    """Returns KL(softmax(teacher_scores) || exp(logs)), summed over queries.

    Args:
        teacher_scores: Scores, -inf where there is no document; float [queries, documents].
        logs: Log-probabilities, with any value where there is no document; same shape.
    """
    present = teacher_scores > -torch.inf
    target = functional.log_softmax(teacher_scores, dim=-1)
    gap = target.masked_fill(~present, 0.0) - logs.masked_fill(~present, 0.0)
    return (target.exp() * gap).sum()
