"""A teacher's candidate documents, with the scores of teacher and model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from dsi.objectives.base import IGNORED, Forward, Objective, decoder_inputs

if TYPE_CHECKING:
    from dsi.teachers.scores import TeacherScores


@dataclass(frozen=True)
class Candidates:
    """The candidate documents of each query that the teacher scored, the relevant one first.

    Attributes:
        teacher_scores: The teacher's scores divided by the temperature, -inf where there is no
            document; float32 [queries, documents].
        codes: Their identifiers, `IGNORED` past the end and where there is no document; int64
            [queries, documents, positions].
        code_logits: The model's logit of each code, 0 past the end; float32, same shape.
        code_logs: The log-probability of each code, 0 past the end; float32, same shape.
    """

    teacher_scores: torch.Tensor
    codes: torch.Tensor
    code_logits: torch.Tensor
    code_logs: torch.Tensor

    @property
    def present(self) -> torch.Tensor:
        """Mask of existing documents; bool [queries, documents]."""
        return self.teacher_scores > -torch.inf

    @property
    def logs(self) -> torch.Tensor:
        """Log-probability of each identifier given the query; float32 [queries, documents]."""
        return self.code_logs.sum(-1)


class TeacherObjective(Objective, ABC):
    """A loss term over the candidate documents of a teacher.

    Args:
        weight: Factor of the term.
        teacher_scores: Candidates and scores of the teacher. Terms that share them also share the
            model's scores of these candidates, which are computed once.
    """

    encoder_states = True

    def __init__(self, weight: float, teacher_scores: TeacherScores) -> None:
        super().__init__(weight)
        self.teacher_scores = teacher_scores

    def of_examples(self, forward: Forward) -> torch.Tensor:
        """Sums over the queries of a micro-batch that the teacher scored."""
        return self.of_candidates(forward.once(self.teacher_scores, _look_up), forward)

    @abstractmethod
    def of_candidates(self, candidates: Candidates, forward: Forward) -> torch.Tensor:
        """Returns the sum over queries; a batch of none gives 0, with a gradient of 0."""


def _look_up(teacher_scores: TeacherScores, forward: Forward) -> Candidates:
    """Finds the examples that the teacher scored, and scores their candidates with the model."""
    device = forward.codes.device
    rows, scores = teacher_scores.of(forward.batch.numbers)
    with_candidates = np.flatnonzero((rows >= 0).any(axis=1))
    # A pass without examples would fail; the first example serves as a placeholder with no effect.
    numbers = with_candidates if len(with_candidates) else np.zeros(1, np.int64)
    places = torch.from_numpy(numbers).to(device)
    candidate_rows = torch.from_numpy(rows[numbers]).to(device)
    candidate_scores = torch.from_numpy(scores[numbers]).to(device)
    codes = forward.targets.codes[candidate_rows.clamp_min(0)]
    codes = codes.masked_fill((candidate_rows < 0).unsqueeze(-1), IGNORED)
    longest = int((codes != IGNORED).sum(-1).max())
    codes = codes[..., : max(longest, 1)]
    logits = _logits(forward, places, codes)
    mask = codes != IGNORED
    index = codes.masked_fill(~mask, 0).unsqueeze(-1)
    normalizer = logits.logsumexp(dim=-1)
    chosen = logits.expand(*codes.shape, -1).gather(-1, index).squeeze(-1)
    raw = chosen.masked_fill(~mask, 0.0)
    logs = (chosen - normalizer).masked_fill(~mask, 0.0)
    kept_lines = slice(len(with_candidates))
    return Candidates(
        candidate_scores[kept_lines], codes[kept_lines], raw[kept_lines], logs[kept_lines]
    )


def _logits(forward: Forward, places: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Returns float32 logits, broadcastable to [queries, documents, positions, alphabet]."""
    if forward.targets.codes.shape[1] == 1:
        # Identifiers of one code all come from the same distribution. (All processes agree on
        # whether this holds, so that all run the same passes.)
        return forward.logits[places, :1].float().unsqueeze(1)
    queries, documents, positions = codes.shape
    hidden = forward.encoder_states[places]
    logits = forward.run(
        input_ids=None,
        encoder_outputs=(hidden.repeat_interleave(documents, dim=0),),
        attention_mask=forward.attention_mask[places].repeat_interleave(documents, dim=0),
        decoder_input_ids=decoder_inputs(codes).flatten(0, 1),
    ).logits
    return logits.float().view(queries, documents, positions, -1)
