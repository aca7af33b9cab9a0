"""Softmax regression of codes on decoder states: output rows by a convex problem.

The rows R minimize

    mean over samples of -log softmax(R_allowed z)[code] + lam * mean ||z||^2 * ||R||^2

by L-BFGS. Least squares also asks for a score of 0 at codes that the trie does not allow after a
prefix, and for one of 1 however clearly a code has won already; the softmax asks for neither.
Samples with the same prefix have the same allowed codes, so that a block of them costs a product
with the rows of these codes only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

LAM = 1e-5
"""The ridge where none is given, relative to the mean square of a state."""


@dataclass(frozen=True)
class Block:
    """Samples with the same allowed codes.

    Attributes:
        states: float32 [samples, width].
        allowed: The codes, at least two; int64 [codes].
        wanted: The place of each sample's code in `allowed`; int64 [samples].
    """

    states: torch.Tensor
    allowed: torch.Tensor
    wanted: torch.Tensor


def loss_of(rows: torch.Tensor, blocks: Sequence[Block], lam: float) -> torch.Tensor:
    """Returns the objective; a scalar.

    Args:
        rows: Output rows; float32 [alphabet, width].
        blocks: All samples.
        lam: The ridge, relative to the mean square of the states.
    """
    count = sum(len(block.states) for block in blocks)
    size = sum(block.states.square().sum() for block in blocks) / count
    total = rows.new_zeros(())
    for block in blocks:
        logits = block.states @ rows[block.allowed].T
        total = total + torch.nn.functional.cross_entropy(logits, block.wanted, reduction="sum")
    return total / count + lam * size * rows.square().sum()


def softmax_rows(
    blocks: Sequence[Block], start: torch.Tensor, lam: float, iterations: int
) -> torch.Tensor:
    """Returns the rows that minimize the objective; float32 [alphabet, width].

    Args:
        blocks: All samples.
        start: Rows to begin with; codes in no block become zero. float32 [alphabet, width].
        lam: The ridge, relative to the mean square of the states.
        iterations: Maximum iterations of L-BFGS.
    """
    rows = torch.zeros_like(start)
    if not blocks:
        return rows
    used = torch.unique(torch.cat([block.allowed for block in blocks]))
    # The search moves rows of codes that occur, and no others.
    places = torch.full((len(start),), -1)
    places[used] = torch.arange(len(used))
    inner = [Block(each.states, places[each.allowed], each.wanted) for each in blocks]
    moved = start[used].detach().float().clone().requires_grad_(True)
    search = torch.optim.LBFGS(
        [moved], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        search.zero_grad()
        value = loss_of(moved, inner, lam)
        value.backward()
        return value

    search.step(closure)
    rows[used] = moved.detach().to(rows.dtype)
    return rows
