"""Helpers for inference: evaluation mode and padded batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Puts a module into evaluation mode within the context, even if an error occurs."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def padded(lines: Sequence[Sequence[int]], filler: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-pads lines to the longest of them.

    Args:
        lines: Token ids or codes, at least one line.
        filler: Padding value for shorter lines.

    Returns:
        The lines and their mask, 1 where there is a token; both int64 [lines, longest], on the CPU.
    """
    tokens = torch.full((len(lines), max(map(len, lines))), filler, dtype=torch.int64)
    mask = torch.zeros_like(tokens)
    for place, line in enumerate(lines):
        tokens[place, : len(line)] = torch.tensor(line, dtype=torch.int64)
        mask[place, : len(line)] = 1
    return tokens, mask
