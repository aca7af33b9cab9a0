"""Supervised contrastive learning of the decoder's states."""

from __future__ import annotations

import torch
from torch.nn import functional

from dsi.objectives.base import IGNORED, OBJECTIVES, Forward, Objective


@OBJECTIVES.register("contrastive")
class Contrastive(Objective):
    """States at the same code are closer than others of the batch, at each position.

    Khosla et al., NeurIPS 2020, equation 2 (outside the logarithm), as generative kernel continual
    learning (arXiv 2112.13410, section 3.3) trains its features with it.

    Args:
        weight: Factor of the term.
        temperature: Temperature of the cosines.
    """

    name = "contrastive"
    hidden_states = True
    whole_batch = True

    def __init__(self, weight: float = 1.0, temperature: float = 0.1) -> None:
        super().__init__(weight)
        self.temperature = temperature

    def of_examples(self, forward: Forward) -> torch.Tensor:
        """Sums over examples and codes."""
        return supervised_contrastive(forward.decoder_states, forward.codes, self.temperature)


def supervised_contrastive(
    states: torch.Tensor, codes: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Returns the loss, summed over the states that share their code with another of the batch.

    Args:
        states: floating [examples, positions, width].
        codes: Their codes, `IGNORED` past the end; int64 [examples, positions].
        temperature: Temperature of the cosines.
    """
    total = states.sum() * 0.0
    for place in range(codes.shape[1]):
        present = codes[:, place] != IGNORED
        own_codes = codes[present, place]
        vectors = functional.normalize(states[present, place].float(), dim=-1)
        itself = torch.eye(len(own_codes), dtype=torch.bool, device=own_codes.device)
        scores = (vectors @ vectors.T / temperature).masked_fill(itself, -1e9)
        alike = (own_codes.unsqueeze(1) == own_codes) & ~itself
        logs = scores.log_softmax(-1).masked_fill(~alike, 0.0).sum(dim=1)
        total = total - (logs / alike.sum(dim=1).clamp_min(1)).sum()
    return total
