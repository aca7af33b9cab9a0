"""Any transformers encoder-decoder with a cache, through its own `forward`."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from dsi.search.decoders.base import log_probabilities_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class GenericDecoder:
    """Calls the model itself; its states are the logits.

    The encoding of a query is repeated for each of its beams, as in `generate`.

    Args:
        model: An encoder-decoder.
        hidden: The encoded queries; [queries, length, width].
        attention_mask: 1 at tokens, 0 at padding; [queries, length].
    """

    begins = 0  # all rows of a cache have the same length

    def __init__(
        self, model: PreTrainedModel, hidden: torch.Tensor, attention_mask: torch.Tensor
    ) -> None:
        self._model: Any = model
        self._hidden = hidden
        self._attention_mask = attention_mask
        self._cache: Any = None
        self._rows = 1

    @classmethod
    def start(
        cls, model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> GenericDecoder:
        """Encodes queries; see `start_decoder`."""
        encoded = model.get_encoder()(input_ids=input_ids, attention_mask=attention_mask)
        return cls(model, encoded.last_hidden_state, attention_mask)

    def begin(self, codes: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """Never called."""
        raise AssertionError("the rows of a cache are all of one length")

    def step(self, codes: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """See `Decoder.step`."""
        return self.tails(codes.unsqueeze(-1), parents).squeeze(2)

    def tails(self, codes: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """See `Decoder.tails`."""
        from transformers.modeling_outputs import BaseModelOutput

        queries, rows, length = codes.shape
        if self._cache is not None:
            first = torch.arange(queries, device=codes.device).unsqueeze(1) * self._rows
            self._reorder((first + parents).view(-1), rows != self._rows)
        self._rows = rows
        output = self._model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self._hidden),
            attention_mask=self._attention_mask,
            decoder_input_ids=codes.view(queries * rows, length),
            past_key_values=self._cache,
            use_cache=True,
            return_dict=True,
        )
        self._cache = output.past_key_values
        return output.logits.view(queries, rows, length, -1)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """See `Decoder.logits`."""
        return states

    def logits_at(self, states: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """See `Decoder.logits_at`."""
        return states.gather(2, codes)

    def log_probabilities(self, states: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """See `Decoder.log_probabilities`."""
        return log_probabilities_of(self.logits(states), codes)

    def take(self, queries: torch.Tensor) -> GenericDecoder:
        """See `Decoder.take`."""
        other = copy.copy(self)
        if self._cache is not None:
            other._cache = copy.deepcopy(self._cache)
        rows = torch.arange(self._rows, device=queries.device)
        other._reorder((queries.unsqueeze(1) * self._rows + rows).view(-1), True)
        return other

    def _reorder(self, rows: torch.Tensor, everything: bool) -> None:
        """Continues with these of all queries' rows.

        All beams of a query attend to the same encoded query, so that half of the cache changes
        only when their number does.
        """
        if self._cache is not None:
            self._cache.self_attention_cache.reorder_cache(rows)
        if everything:
            if self._cache is not None:
                self._cache.cross_attention_cache.reorder_cache(rows)
            self._hidden = self._hidden.index_select(0, rows)
            self._attention_mask = self._attention_mask.index_select(0, rows)
