"""The decoder of T5 and mT5 (and of Flan-T5, which has the same parts)."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from dsi.search.decoders import t5_encoder
from dsi.search.decoders.t5_layers import feed_forward, linear_layers, norm
from dsi.search.decoders.tree import TreeDecoder
from dsi.search.packing import plain

_MODELS = ("T5ForConditionalGeneration", "MT5ForConditionalGeneration", "PawaT5", "PawaMT5")


class T5Decoder(TreeDecoder):
    """Layers with the norm first, unscaled attention and a relative position bias."""

    @classmethod
    def knows(cls, model: PreTrainedModel) -> bool:
        """See `TreeDecoder.knows`. Half precision has clamps of its own, and is not known."""
        if type(model).__name__ not in _MODELS or model.dtype == torch.float16:
            return False
        parts = [part for block in cls.layers(model) for part in linear_layers(block)]
        return plain(*parts, model.get_output_embeddings())

    @classmethod
    def encode(
        cls, model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """See `TreeDecoder.encode`."""
        if t5_encoder.knows(model.get_encoder()):
            return t5_encoder.encode(model.get_encoder(), input_ids, attention_mask)
        return super().encode(model, input_ids, attention_mask)

    @staticmethod
    def layers(model: PreTrainedModel) -> list[Any]:
        """See `TreeDecoder.layers`."""
        return list(model.get_decoder().block)

    def _cross_keys_values(
        self, layer: Any, hidden: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        attention = layer.layer[1].EncDecAttention
        shape = (*hidden.shape[:2], attention.n_heads, -1)
        key, value = attention.k(hidden).view(shape), attention.v(hidden).view(shape)
        return key.transpose(1, 2).contiguous(), value.transpose(1, 2).contiguous()

    def _forward(
        self, codes: torch.Tensor, depths: torch.Tensor, visible: torch.Tensor
    ) -> torch.Tensor:
        decoder = self._model.get_decoder()
        states = decoder.embed_tokens(codes)
        mask = self._bias(depths).to(states.dtype)
        mask = mask.masked_fill(~visible.unsqueeze(1), torch.finfo(states.dtype).min)
        for place, block in enumerate(self._layers):
            own, cross, last = block.layer
            attention = own.SelfAttention
            normed = norm(own.layer_norm, states)
            attended = self._attend_nodes(
                place,
                attention.q(normed),
                attention.k(normed),
                attention.v(normed),
                mask,
                1.0,
                attention.n_heads,
            )
            states += attention.o(attended)
            attention = cross.EncDecAttention
            query = attention.q(norm(cross.layer_norm, states))
            attended = self._attend_query(place, query, 1.0, attention.n_heads)
            states += attention.o(attended)
            states += feed_forward(last.DenseReluDense, norm(last.layer_norm, states))
        states = norm(decoder.final_layer_norm, states)
        if getattr(self._model.config, "scale_decoder_outputs", False):
            states = states * self._model.config.d_model**-0.5
        return states

    def _bias(self, depths: torch.Tensor) -> torch.Tensor:
        """Returns the position bias between rows and all nodes; [1, heads, rows, nodes]."""
        attention = self._layers[0].layer[0].SelfAttention
        buckets = attention._relative_position_bucket(
            self._depths - depths.unsqueeze(1),
            bidirectional=False,
            num_buckets=attention.relative_attention_num_buckets,
            max_distance=attention.relative_attention_max_distance,
        )
        return attention.relative_attention_bias(buckets).permute(2, 0, 1).unsqueeze(0)

    def _head(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self._model.lm_head.weight, None
