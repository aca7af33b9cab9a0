"""The decoder of a T5 whose output layer is adapted to prefixes (`dsi.backbones.pawa`)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from docids.table import PAD
from dsi.search.decoders.base import Decoder, log_probabilities_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ELEMENTS = 2**25
"""Approximate number of adapted weights in memory at once."""


class PawaDecoder:
    """A decoder that also keeps the codes of every row, for the adaptor.

    Its states are those of the decoder, concatenated with those of the prefixes.

    Args:
        model: A model with an adaptor.
        inner: Its decoder without the adaptor.
    """

    def __init__(self, model: PreTrainedModel, inner: Decoder) -> None:
        self._model: Any = model
        self._inner = inner
        self.begins = min(1, inner.begins)
        self._codes: torch.Tensor | None = None
        """What each row has read; int64 [queries, rows, codes]."""

    def begin(self, codes: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """See `Decoder.begin`."""
        states = self._inner.begin(codes, parents)
        read = torch.stack([torch.full_like(codes, PAD), codes], dim=-1)
        # The row of PAD comes before any code; nothing continues it.
        read = torch.cat([torch.full_like(read[:1], PAD), read])
        prefixes = self._prefixes(read)
        prefixes = torch.cat([prefixes[:1, 0], prefixes[1:, 1]])
        self._codes = read.expand(len(states), -1, -1)
        return torch.cat([states, prefixes.expand(len(states), -1, -1)], dim=-1)

    def step(self, codes: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """See `Decoder.step`."""
        states = self._inner.step(codes, parents)
        self._codes = self._read(codes.unsqueeze(-1), parents)
        prefixes = self._prefixes(self._codes.flatten(0, 1))[:, -1]
        return torch.cat([states, prefixes.view(states.shape)], dim=-1)

    def tails(self, codes: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """See `Decoder.tails`."""
        states = self._inner.tails(codes, parents)
        prefixes = self._prefixes(self._read(codes, parents).flatten(0, 1))
        return torch.cat([states, prefixes[:, -codes.shape[2] :].view(states.shape)], dim=-1)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """See `Decoder.logits`."""
        decoder_states, prefixes = states.chunk(2, dim=-1)
        weight = self._model.pawa.weight
        rows = max(1, _ELEMENTS // (weight.shape[1] * min(weight.shape[:2])))
        pairs = zip(
            decoder_states.flatten(0, -2).split(rows),
            prefixes.flatten(0, -2).split(rows),
            strict=True,
        )
        added = torch.cat([self._model.pawa.adapted(*pair) for pair in pairs])
        return self._inner.logits(decoder_states) + added.view(*decoder_states.shape[:-1], -1)

    def logits_at(self, states: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """See `Decoder.logits_at`."""
        return self.logits(states).gather(2, codes)

    def log_probabilities(self, states: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """See `Decoder.log_probabilities`."""
        return log_probabilities_of(self.logits(states), codes)

    def take(self, queries: torch.Tensor) -> PawaDecoder:
        """See `Decoder.take`."""
        other = copy.copy(self)
        other._inner = self._inner.take(queries)
        other._codes = None if self._codes is None else self._codes[queries]
        return other

    def _read(self, codes: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """Returns the codes of rows, with these appended; [queries, rows, codes so far]."""
        if self._codes is None:
            return codes
        above = parents.unsqueeze(-1).expand(-1, -1, self._codes.shape[2])
        return torch.cat([self._codes.gather(1, above), codes], dim=2)

    def _prefixes(self, codes: torch.Tensor) -> torch.Tensor:
        """Returns the adaptor's states; [lines, codes, width]."""
        return self._model.pawa.prefixes(self._model.get_decoder().embed_tokens(codes))
