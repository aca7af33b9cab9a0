"""The decoder of T5 and mT5 (and of Flan-T5, which has the same parts)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from dsi.backbones.output_states import mapped
from dsi.kernels.packed_linear import linear_of, plain, together
from dsi.search.decoders import t5_encoder
from dsi.search.decoders.t5_layers import feed_forward, linear_layers, norm
from dsi.search.decoders.tree import EncodedTreeDecoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MODELS = (
    "T5ForConditionalGeneration",
    "MT5ForConditionalGeneration",
    "PawaT5",
    "PawaMT5",
    "T5Weights",
)


class T5Decoder(EncodedTreeDecoder):
    """Pre-norm layers with unscaled attention and a relative position bias."""

    _biases: torch.Tensor | None = None
    """The bias by distance, which no longer changes from the last one on; [heads, distances]."""

    @classmethod
    def knows(cls, model: PreTrainedModel) -> bool:
        """See `TreeDecoder.knows`. Half precision, which clamps states, is not supported."""
        if type(model).__name__ not in _MODELS or model.dtype == torch.float16:
            return False
        parts = [part for block in cls.layers(model) for part in linear_layers(block)]
        return plain(*parts, model.get_output_embeddings())

    @classmethod
    def encode(
        cls, model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """See `EncodedTreeDecoder.encode`."""
        if t5_encoder.knows(model.get_encoder()):
            return t5_encoder.encode(model.get_encoder(), input_ids, attention_mask)
        return super().encode(model, input_ids, attention_mask)

    @staticmethod
    def layers(model: PreTrainedModel) -> list[Any]:
        """See `EncodedTreeDecoder.layers`."""
        return list(model.get_decoder().block)

    def _cross_keys_values(
        self, layer: Any, hidden: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        attention = layer.layer[1].EncDecAttention
        read = together(hidden, attention.k, attention.v).to(hidden.dtype)
        parts = read.unflatten(2, (2, attention.n_heads, -1)).permute(2, 0, 3, 1, 4)
        key, value = parts.contiguous()
        return key, value

    def _forward(
        self, codes: torch.Tensor, depths: torch.Tensor, visible: torch.Tensor
    ) -> torch.Tensor:
        decoder = self._model.get_decoder()
        states = decoder.embed_tokens(codes)
        mask = self._bias(depths).to(states.dtype)
        mask = mask.masked_fill(~visible.unsqueeze(1), torch.finfo(states.dtype).min)
        states = self._through(states, mask)
        states = mapped(decoder.final_layer_norm, norm(decoder.final_layer_norm, states))
        if getattr(self._model.config, "scale_decoder_outputs", False):
            states = states * self._model.config.d_model**-0.5
        return states

    def _through(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Runs the layers, which changes the states; [lines, rows, width] in and out.

        Args:
            states: The embedded codes.
            mask: Added to the scores of nodes; [lines or 1, heads, rows, nodes].
        """
        for place, block in enumerate(self._layers):
            self_attention, cross, last = block.layer
            attention = self_attention.SelfAttention
            normed = norm(self_attention.layer_norm, states)
            read = together(normed, attention.q, attention.k, attention.v)
            query, key_value = read.split((attention.inner_dim, 2 * attention.inner_dim), -1)
            query = query.to(states.dtype)
            attended = self._attend_nodes(place, query, key_value, mask, 1.0, attention.n_heads)
            states += linear_of(attention.o, attended)
            attention = cross.EncDecAttention
            query = attention.q(norm(cross.layer_norm, states))
            attended = self._attend_query(place, query, 1.0, attention.n_heads)
            states += linear_of(attention.o, attended)
            states += feed_forward(last.DenseReluDense, norm(last.layer_norm, states))
        return states

    def _bias(self, depths: torch.Tensor) -> torch.Tensor:
        """Returns the position bias between rows and all nodes; [1, heads, rows, nodes]."""
        attention = self._layers[0].layer[0].SelfAttention
        if self._biases is None:
            most = attention.relative_attention_max_distance
            buckets = attention._relative_position_bucket(
                -torch.arange(most + 1, device=depths.device),
                bidirectional=False,
                num_buckets=attention.relative_attention_num_buckets,
                max_distance=most,
            )
            self._biases = attention.relative_attention_bias(buckets).t().contiguous()
        distances = (depths.unsqueeze(1) - self._depths).clamp_(0, self._biases.shape[1] - 1)
        return self._biases[:, distances].unsqueeze(0)

    def _head(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self._model.lm_head.weight, None
