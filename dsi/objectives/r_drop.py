"""R-Drop: two passes through dropout must agree (Wu et al. 2021; NCI, Wang et al. 2022)."""

from __future__ import annotations

import torch
from torch.nn import functional

from dsi.objectives.base import IGNORED, OBJECTIVES, Forward, Objective


@OBJECTIVES.register("r_drop")
class RDrop(Objective):
    """The mean over an identifier's codes of the symmetric divergence between two passes.

    1/2 [KL(p1 || p2) + KL(p2 || p1)] / codes, over the whole docid alphabet. It costs a second
    pass.
    """

    name = "r_drop"

    def of_examples(self, forward: Forward) -> torch.Tensor:
        """Returns the sum over examples."""
        return symmetric_divergence(forward.logits, forward.run().logits, forward.codes)


def symmetric_divergence(
    logits: torch.Tensor, others: torch.Tensor, codes: torch.Tensor
) -> torch.Tensor:
    """Returns 1/2 [KL(p || q) + KL(q || p)] per code of an identifier, summed over examples.

    Args:
        logits: Logits of p; float [examples, positions, alphabet].
        others: Logits of q; the same shape.
        codes: int64 [examples, positions], `IGNORED` past the end.
    """
    first = functional.log_softmax(logits.float(), dim=-1)
    second = functional.log_softmax(others.float(), dim=-1)
    # KL(p||q) + KL(q||p) = sum of (p - q) (log p - log q)
    both = ((first.exp() - second.exp()) * (first - second)).sum(-1)
    mask = codes != IGNORED
    return (0.5 * both * mask).sum(dim=1).div(mask.sum(dim=1).clamp_min(1)).sum()
