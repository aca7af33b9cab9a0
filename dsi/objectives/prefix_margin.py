"""Margins of identifier prefixes that follow a teacher's (RIPOR, Zeng et al. 2024)."""

from __future__ import annotations

import torch

from dsi.objectives.base import OBJECTIVES, Forward
from dsi.objectives.candidates import Candidates, TeacherObjective

_SHARES = ((1, 8, 0.5), (1, 4, 0.75), (1, 2, 0.875), (1, 1, 1.0))
"""Prefix length as a fraction of the whole, and its alpha: RIPOR's 4, 8, 16 and 32 of 32 codes."""


@OBJECTIVES.register("prefix_margin")
class PrefixMargin(TeacherObjective):
    """The squared gap between the model's and the teacher's margins, for growing prefixes.

    L_i = (S_i(q, right) - S_i(q, wrong) - alpha_i T)^2, where S_i is the sum of the first i codes'
    logits without a softmax, T the teacher's margin between the two documents divided by the
    temperature, and alpha_i 1/2, 3/4, 7/8 and 1 for an eighth, a quarter, half and the whole of the
    longest identifier. The loss is the mean over the query's wrong candidates, summed over prefix
    lengths.

    Training has as many stages of equal length as there are prefix lengths. Each stage adds the
    next longer one and keeps the previous ones. A pair with equal prefixes has no margin to learn
    and does not count at that length.
    """

    name = "prefix_margin"

    def of_candidates(self, candidates: Candidates, forward: Forward) -> torch.Tensor:
        """Returns the sum over queries."""
        prefixes = prefix_lengths(forward.targets.codes.shape[1])
        stage = forward.step * len(prefixes) // max(forward.steps, 1)
        return prefix_margins(
            candidates.code_logits,
            candidates.codes,
            candidates.teacher_scores,
            prefixes[: min(stage, len(prefixes) - 1) + 1],
        )


def prefix_lengths(longest: int) -> list[tuple[int, float]]:
    """Returns the prefix lengths to train, ascending, with the alpha of each.

    Args:
        longest: Number of codes of the longest identifier.
    """
    margins: dict[int, float] = {}
    for part, denominator, alpha in _SHARES:
        margins[-(-longest * part // denominator)] = alpha
    return sorted(margins.items())


def prefix_margins(
    code_logits: torch.Tensor,
    codes: torch.Tensor,
    teacher_scores: torch.Tensor,
    prefixes: list[tuple[int, float]],
) -> torch.Tensor:
    """Returns the sum of L_i over prefix lengths and queries, the mean over wrong documents.

    Args:
        code_logits: 0 past the end; float [queries, documents, positions].
        codes: `IGNORED` past the end; int64, same shape; the right document first.
        teacher_scores: The teacher's scores, -inf where there is no document; float
            [queries, documents].
        prefixes: Lengths and alphas.
    """
    wrong = teacher_scores[:, 1:] > -torch.inf
    margin = (teacher_scores[:, :1] - teacher_scores[:, 1:]).masked_fill(~wrong, 0.0)
    total = code_logits.sum() * 0
    for length, alpha in prefixes:
        scores = code_logits[..., :length].sum(-1)
        same = (codes[:, 1:, :length] == codes[:, :1, :length]).all(-1)
        gap = scores[:, :1] - scores[:, 1:] - alpha * margin
        squares = (gap**2).masked_fill(~wrong | same, 0.0)
        total = total + (squares.sum(dim=1) / wrong.sum(dim=1).clamp_min(1)).sum()
    return total
