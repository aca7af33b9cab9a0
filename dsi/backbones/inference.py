"""Helpers for inference: evaluation mode and padded batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def evaluating(
    module: nn.Module, gradients: Callable[[], AbstractContextManager[Any]] = torch.inference_mode
) -> Iterator[None]:
    """Evaluation mode; the module's own mode is restored, even after an error.

    Args:
        module: The module.
        gradients: `torch.inference_mode`; `torch.no_grad` where results enter a differentiated
            computation later, `torch.enable_grad` where gradients are computed.
    """
    training = module.training
    # Switching takes longer than looking: as long as a layer's products for a single query.
    switched = any(part.training for part in module.modules())
    if switched:
        module.eval()
    try:
        with gradients():
            yield
    finally:
        if switched or module.training != training:
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
