"""Attention of transformers models with externally managed keys and values.

`generate` keeps a cache with a line for each beam. A search that shares a prompt between the beams
of a query, and prefixes between beams, keeps keys and values in its own order. So that every
decoder-only family can run through its own `forward`, with its own positions, norms and scales,
only the attention is replaced: an implementation named `KEPT` (`transformers.AttentionInterface`)
that calls a handler if one is active, and is PyTorch's own attention otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import torch

KEPT = "dsi_kept"
"""The name of the implementation in a configuration."""


class AttentionHandler(Protocol):
    """Keeps the keys and values of a network's layers."""

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        *,
        scale: float,
        softcap: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """Returns the attention output of a layer.

        Args:
            layer: Index of the layer, from 0.
            query: [lines, heads, rows, size].
            key: Keys of the same rows; [lines, key heads, rows, size].
            value: Values of the same rows; same shape.
            mask: True where a row attends to another; bool [lines, 1, rows, rows], or None.
            scale: Scale of the scores.
            softcap: Limit of the scores, applied by a hyperbolic tangent; None for no limit.
            window: How many positions back a row attends to; None for all.

        Returns:
            [lines, heads, rows, size].
        """
        ...


_handler: ContextVar[AttentionHandler | None] = ContextVar("handler", default=None)


@contextmanager
def handling_attention(handler: AttentionHandler) -> Iterator[None]:
    """Makes all layers call a handler, in this thread, within the context."""
    token = _handler.set(handler)
    try:
        yield
    finally:
        _handler.reset(token)


def attended(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    softcap: float | None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Computes attention with soft-capped scores; shapes as in `AttentionHandler`."""
    lines, heads, rows, size = query.shape
    grouped = query.reshape(lines, key.shape[1], -1, size)
    scores = capped(torch.matmul(grouped, key.transpose(2, 3)) * scale, softcap)
    scores = scores.view(lines, heads, rows, -1)
    if mask is not None:  # several versions of transformers give OPT a mask that is to be added
        scores = (
            scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
            if mask.dtype == torch.bool
            else scores + mask
        )
    shares = scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype)
    shares = torch.nn.functional.dropout(shares, dropout, training=dropout > 0)
    outputs = torch.matmul(shares.view(lines, key.shape[1], -1, shares.shape[-1]), value)
    return outputs.view(lines, heads, rows, -1)


def capped(scores: torch.Tensor, softcap: float | None) -> torch.Tensor:
    """Soft-caps scores at `softcap`; unchanged for None."""
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    handler = _handler.get()
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if handler is not None:
        outputs = handler.attend(
            module.layer_idx,
            query,
            key,
            value,
            attention_mask,
            scale=scale,
            softcap=softcap,
            window=sliding_window,
        )
    elif softcap is not None:
        outputs = attended(query, key, value, attention_mask, scale, softcap, dropout)
    else:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scale
        )
    return outputs.transpose(1, 2).contiguous(), None


def _mask(*args: Any, **options: Any) -> torch.Tensor | None:
    """Returns which rows attend to which; nothing is left implicit."""
    from transformers.masking_utils import sdpa_mask

    return sdpa_mask(*args, **{**options, "allow_is_causal_skip": False})


def offer() -> None:
    """Registers the implementation, so that configurations can name it."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(KEPT, _attention)
    AttentionMaskInterface.register(KEPT, _mask)
