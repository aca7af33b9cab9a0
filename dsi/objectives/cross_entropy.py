"""Cross-entropy over the docid alphabet, the loss of every DSI (Tay et al. 2022, section 3)."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from dsi.objectives.base import IGNORED, OBJECTIVES, Forward, Objective
from dsi.objectives.constrained_cross_entropy import constrained_cross_entropy


@OBJECTIVES.register("cross_entropy")
class CrossEntropy(Objective):
    """The negative log-probability of each example's identifier.

    Args:
        weight: Factor of the term.
        label_smoothing: Fraction of the target to spread over the alphabet; 0 for none.
    """

    name = "cross_entropy"

    def __init__(self, weight: float = 1.0, label_smoothing: float = 0.0) -> None:
        super().__init__(weight)
        self.label_smoothing = label_smoothing

    def of_examples(self, forward: Forward) -> torch.Tensor:
        """Sums over codes and examples; `Targets` defines the competitors of labeled queries."""
        logits, codes = forward.logits, forward.codes
        groups: list[tuple[Any, torch.Tensor | None]] = [(slice(None), None)]
        if forward.targets.competitors is not None:
            among = forward.targets.competitors[None, : codes.shape[1]]
            groups = [(forward.labeled, among), (~forward.labeled, None)]
        start = logits.sum() * 0
        return sum((self._of_group(forward, *group) for group in groups), start=start)

    def _of_group(
        self, forward: Forward, group: Any, competitors: torch.Tensor | None
    ) -> torch.Tensor:
        logits, codes = forward.logits[group], forward.codes[group]
        if forward.targets.continuations is None:
            return docid_cross_entropy(
                logits, codes, label_smoothing=self.label_smoothing, competitors=competitors
            )
        return constrained_cross_entropy(
            logits,
            codes,
            forward.rows[group],
            forward.targets.continuations,
            label_smoothing=self.label_smoothing,
            competitors=competitors,
        )


def docid_cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    label_smoothing: float = 0.0,
    competitors: torch.Tensor | None = None,
) -> torch.Tensor:
    """Returns the summed cross-entropy of the codes of identifiers, without averaging.

    Args:
        logits: Logits of every code at every position, float [batch, positions, alphabet].
        targets: The right codes, int64 [batch, positions]; `IGNORED` past the end.
        label_smoothing: Fraction of the target to spread over the alphabet; 0 for none.
        competitors: Which codes an example's softmax runs over, bool broadcastable to the
            logits; the right code must be among them. None for all.

    Returns:
        A scalar, float32: the sum over examples and positions.
    """
    logits = logits.float()
    if competitors is not None:
        logits = logits.masked_fill(~competitors, torch.finfo(torch.float32).min / 2)
    mask = targets != IGNORED
    target_index = targets.clamp_min(0).unsqueeze(-1)
    if competitors is None or not label_smoothing:
        return functional.cross_entropy(
            logits.flatten(0, 1),
            targets.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=label_smoothing,
        )
    # Smoothing covers the competitors only: the logarithm of a masked code is not finite.
    logs = functional.log_softmax(logits, dim=-1)
    among = competitors.expand_as(logs)
    spread = logs.masked_fill(~among, 0.0).sum(-1) / among.sum(-1)
    right = logs.gather(-1, target_index).squeeze(-1)
    loss = -(1 - label_smoothing) * right - label_smoothing * spread
    return (loss * mask).sum()
