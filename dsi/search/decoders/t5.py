"""The decoder of T5 and mT5 (and of Flan-T5, which has the same parts)."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from dsi.search.decoders.tree import TreeDecoder, plain

_MODELS = ("T5ForConditionalGeneration", "MT5ForConditionalGeneration", "PawaT5", "PawaMT5")


class T5Decoder(TreeDecoder):
    """Layers with the norm first, unscaled attention and a relative position bias."""

    @classmethod
    def knows(cls, model: PreTrainedModel) -> bool:
        """See `TreeDecoder.knows`. Half precision has clamps of its own, and is not known."""
        if type(model).__name__ not in _MODELS or model.dtype == torch.float16:
            return False
        parts = []
        for block in cls.layers(model):
            dense = block.layer[2].DenseReluDense
            own, cross = block.layer[0].SelfAttention, block.layer[1].EncDecAttention
            parts += [own.q, own.k, own.v, own.o, cross.q, cross.k, cross.v, cross.o, dense.wo]
            parts += [dense.wi_0, dense.wi_1] if hasattr(dense, "wi_0") else [dense.wi]
        return plain(*parts, model.get_output_embeddings())

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
            normed = _norm(own.layer_norm, states)
            attended = self._attend_nodes(
                place,
                attention.q(normed),
                attention.k(normed),
                attention.v(normed),
                mask,
                1.0,
                attention.n_heads,
            )
            states = states + attention.o(attended)
            attention = cross.EncDecAttention
            query = attention.q(_norm(cross.layer_norm, states))
            attended = self._attend_query(place, query, 1.0, attention.n_heads)
            states = states + attention.o(attended)
            states = states + last.DenseReluDense(_norm(last.layer_norm, states))
        states = _norm(decoder.final_layer_norm, states)
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


def _norm(module: Any, states: torch.Tensor) -> torch.Tensor:
    """T5's norm, which scales and does not shift, in one operation."""
    return functional.rms_norm(states, states.shape[-1:], module.weight, module.variance_epsilon)
