"""Cross-entropy over the codes that may follow a prefix: the loss for constrained search.

Published systems train over the whole alphabet (Tay et al. 2022, section 3) or over the codes of a
position (NCI and RIPOR mask the others). A search constrained to the trie only ever takes codes
that continue a prefix, so a model need not learn to tell them from the rest.
"""

from __future__ import annotations

import torch

from dsi.objectives.continuations import IGNORED, AllowedContinuations


def constrained_cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    rows: torch.Tensor,
    continuations: AllowedContinuations,
    *,
    label_smoothing: float = 0.0,
    competitors: torch.Tensor | None = None,
) -> torch.Tensor:
    """Returns the summed cross-entropy of identifiers over the continuations of each prefix.

    A code that is the only continuation costs nothing.

    Args:
        logits: Logits of every code at every position, float [batch, positions, alphabet].
        targets: The right codes, int64 [batch, positions]; `IGNORED` past the end.
        rows: Table rows of the examples' identifiers, int64 [batch].
        continuations: Their positions in the trie.
        label_smoothing: Fraction of the target to spread over the continuations; 0 for none.
        competitors: Further restriction of the codes in an example's softmax, bool broadcastable to
            the logits; the right code must be among them. None for all.

    Returns:
        A scalar, float32: the sum over examples and positions.
    """
    trie = continuations.trie
    total = logits.sum(dtype=torch.float32) * 0
    for position in range(targets.shape[1]):
        node = continuations.nodes[rows, position]
        scored = (targets[:, position] != IGNORED) & (node >= 0)
        if not scored.any():
            continue
        node = node[scored]
        before = (
            continuations.nodes[rows, position - 1][scored] if position else torch.zeros_like(node)
        )
        children, among = trie.children(before, trie.branching[position])
        codes = trie.code[children].long()
        if competitors is not None:
            allowed = competitors.expand_as(logits)[scored, position]
            among = among & allowed.gather(1, codes)
        gathered = logits[scored, position].float().gather(1, codes)
        logs = gathered.masked_fill(~among, -torch.inf).log_softmax(dim=1)
        right = logs.gather(1, (node - trie.first_child[before]).unsqueeze(1))
        spread = logs.masked_fill(~among, 0).sum(1) / among.sum(1)
        total = total - (1 - label_smoothing) * right.sum() - label_smoothing * spread.sum()
    return total
