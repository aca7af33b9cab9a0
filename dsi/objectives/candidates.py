"""What a teacher said about queries, and what the model says about the same documents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from dsi.objectives.base import IGNORED, Forward, Objective, decoder_inputs

if TYPE_CHECKING:
    from dsi.teachers.lessons import Lessons


@dataclass(frozen=True)
class Candidates:
    """Documents for each query that the teacher was asked about, the right one first.

    Attributes:
        taught: The teacher's scores over the temperature, -inf where there is no document;
            float32 [queries, documents].
        codes: Their identifiers, `IGNORED` past the end and where there is no document; int64
            [queries, documents, positions].
        code_logits: The model's logit of each code, 0 past the end; float32, same shape.
        code_logs: The log-probability of each code, 0 past the end; float32, same shape.
    """

    taught: torch.Tensor
    codes: torch.Tensor
    code_logits: torch.Tensor
    code_logs: torch.Tensor

    @property
    def present(self) -> torch.Tensor:
        """Where there is a document; bool [queries, documents]."""
        return self.taught > -torch.inf

    @property
    def logs(self) -> torch.Tensor:
        """Log-probability of each identifier given the query; float32 [queries, documents]."""
        return self.code_logs.sum(-1)


class TaughtObjective(Objective, ABC):
    """A term that looks at the documents that a teacher names.

    Args:
        weight: What the term is multiplied with.
        lessons: What the teacher said; several terms of a run share it, and what the model
            says about the same documents is then computed once.
    """

    encoder_states = True

    def __init__(self, weight: float, lessons: Lessons) -> None:
        super().__init__(weight)
        self.lessons = lessons

    def of_examples(self, forward: Forward) -> torch.Tensor:
        """Sums over the queries of a micro-batch that the teacher was asked about."""
        return self.of_candidates(forward.once(self.lessons, _look_up), forward)

    @abstractmethod
    def of_candidates(self, candidates: Candidates, forward: Forward) -> torch.Tensor:
        """Returns the sum over queries; a batch of none gives 0, with a gradient of 0."""


def _look_up(lessons: Lessons, forward: Forward) -> Candidates:
    """Finds the examples that were asked about, and scores their candidates with the model."""
    device = forward.codes.device
    rows, scores = lessons.of(forward.batch.numbers)
    asked = np.flatnonzero((rows >= 0).any(axis=1))
    # A pass without any example would fail; the first one stands in and counts for nothing.
    numbers = asked if len(asked) else np.zeros(1, np.int64)
    places = torch.from_numpy(numbers).to(device)
    picked = torch.from_numpy(rows[numbers]).to(device)
    taught = torch.from_numpy(scores[numbers]).to(device)
    codes = forward.targets.codes[picked.clamp_min(0)]
    codes = codes.masked_fill((picked < 0).unsqueeze(-1), IGNORED)
    longest = int((codes != IGNORED).sum(-1).max())
    codes = codes[..., : max(longest, 1)]
    logits = _logits(forward, places, codes)
    kept = codes != IGNORED
    index = codes.masked_fill(~kept, 0).unsqueeze(-1)
    normaliser = logits.logsumexp(dim=-1)
    chosen = logits.expand(*codes.shape, -1).gather(-1, index).squeeze(-1)
    raw = chosen.masked_fill(~kept, 0.0)
    logs = (chosen - normaliser).masked_fill(~kept, 0.0)
    kept_lines = slice(len(asked))
    return Candidates(taught[kept_lines], codes[kept_lines], raw[kept_lines], logs[kept_lines])


def _logits(forward: Forward, places: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Returns float32 logits, broadcastable to [queries, documents, positions, alphabet]."""
    if forward.targets.codes.shape[1] == 1:
        # Identifiers of one code are all read off the same distribution. (Whether this holds is
        # the same in all processes, so that all make the same passes.)
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
