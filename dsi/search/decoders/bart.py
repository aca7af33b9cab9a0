"""The decoders of BART (post-norm) and mBART (pre-norm)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from dsi.kernels.packed_linear import plain
from dsi.search.decoders.tree import EncodedTreeDecoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MODELS = ("BartForConditionalGeneration", "MBartForConditionalGeneration")


class BartDecoder(EncodedTreeDecoder):
    """Layers with biases, scaled attention and learned positions."""

    @classmethod
    def knows(cls, model: PreTrainedModel) -> bool:
        """See `TreeDecoder.knows`."""
        if type(model).__name__ not in _MODELS or model.dtype == torch.float16:
            return False
        parts = []
        for layer in cls.layers(model):
            for attention in (layer.self_attn, layer.encoder_attn):
                parts += [attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj]
            parts += [layer.fc1, layer.fc2]
        return plain(*parts, model.get_output_embeddings())

    @staticmethod
    def layers(model: PreTrainedModel) -> list[Any]:
        """See `EncodedTreeDecoder.layers`."""
        return list(model.get_decoder().layers)

    def _cross_keys_values(
        self, layer: Any, hidden: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        attention = layer.encoder_attn
        shape = (*hidden.shape[:2], attention.num_heads, -1)
        key, value = attention.k_proj(hidden).view(shape), attention.v_proj(hidden).view(shape)
        return key.transpose(1, 2).contiguous(), value.transpose(1, 2).contiguous()

    def _forward(
        self, codes: torch.Tensor, depths: torch.Tensor, visible: torch.Tensor
    ) -> torch.Tensor:
        decoder = self._model.get_decoder()
        norm_first = hasattr(decoder, "layer_norm")
        states = decoder.embed_tokens(codes)
        states = states + decoder.embed_positions(codes, position_ids=depths)
        states = decoder.layernorm_embedding(states)
        mask = torch.zeros(visible.shape, dtype=states.dtype, device=states.device)
        mask = mask.masked_fill_(~visible, torch.finfo(states.dtype).min).unsqueeze(1)
        for place, layer in enumerate(self._layers):
            attention = layer.self_attn
            before = layer.self_attn_layer_norm(states) if norm_first else states
            attended = self._attend_nodes(
                place,
                attention.q_proj(before),
                torch.cat([attention.k_proj(before), attention.v_proj(before)], dim=-1),
                mask,
                attention.scaling,
                attention.num_heads,
            )
            states = states + attention.out_proj(attended)
            if not norm_first:
                states = layer.self_attn_layer_norm(states)
            attention = layer.encoder_attn
            before = layer.encoder_attn_layer_norm(states) if norm_first else states
            query = attention.q_proj(before)
            attended = self._attend_query(place, query, attention.scaling, attention.num_heads)
            states = states + attention.out_proj(attended)
            if not norm_first:
                states = layer.encoder_attn_layer_norm(states)
            before = layer.final_layer_norm(states) if norm_first else states
            states = states + layer.fc2(layer.activation_fn(layer.fc1(before)))
            if not norm_first:
                states = layer.final_layer_norm(states)
        return decoder.layer_norm(states) if norm_first else states

    def _head(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self._model.lm_head.weight, self._model.final_logits_bias[0]
