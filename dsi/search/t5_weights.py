"""The weights of a T5 for search, read without transformers, which takes seconds to import.

The decoders and encoders of `dsi.search.decoders` use the weights of a T5 but not its `forward`.
Modules have the same names here as in transformers, so that a saved model loads. Any unusual
configuration is left to `dsi.backbones.backbone.load_backbone`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from data_prep.errors import InputError
from data_prep.files import read_json
from data_prep.remote_code import refuse_foreign_code
from dsi.backbones.backbone import (
    CONFIG,
    ENCODER,
    TEXT_ROWS,
    WEIGHTS,
    check_finite,
    check_sizes,
    check_weights,
    compare,
)
from dsi.backbones.output_states import STATE_MAP
from dsi.backbones.position_edits import EDITS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ARCHITECTURES = {"t5": "T5ForConditionalGeneration", "mt5": "MT5ForConditionalGeneration"}
_SIZES = (
    "d_model", "d_kv", "d_ff", "num_heads", "vocab_size", TEXT_ROWS,
    "relative_attention_num_buckets", "relative_attention_max_distance",
)  # fmt: skip
_LAYERS = ("num_layers", "num_decoder_layers")
_FEED_FORWARDS = ("relu", "gated-gelu")
_OTHERS = (
    ENCODER, EDITS, STATE_MAP, "dsi_pawa_layers", "auto_map", "quantization_config",
    "custom_pipelines",
)  # fmt: skip
_LARGEST = 1 << 31


class T5Weights(nn.Module):
    """The weights of a T5 or mT5 encoder-decoder, for the decoders of a search.

    Args:
        stored: The content of `config.json`, for which `readable` is true.
    """

    def __init__(self, stored: Mapping[str, Any]) -> None:
        super().__init__()
        self.stored = dict(stored)
        self.config = SimpleNamespace(**{**stored, "hidden_size": stored["d_model"]})
        self.encoder = StackWeights(self.config, stored[TEXT_ROWS], decoder=False)
        self.decoder = StackWeights(self.config, stored["vocab_size"], decoder=True)
        self.shared = self.decoder.embed_tokens
        self.lm_head = _linear(self.config.d_model, stored["vocab_size"])

    def get_encoder(self) -> StackWeights:
        """Returns the encoder."""
        return self.encoder

    def get_decoder(self) -> StackWeights:
        """Returns the decoder."""
        return self.decoder

    def get_output_embeddings(self) -> nn.Linear:
        """Returns the output layer."""
        return self.lm_head

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.lm_head.weight.dtype

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.lm_head.weight.device

    def complete(self, folder: Path) -> PreTrainedModel:
        """Returns the transformers model that shares these weights, in evaluation mode.

        Args:
            folder: The folder of the weights, for messages.
        """
        from transformers.initialization import no_init_weights

        from dsi.backbones.backbone import network

        with torch.device("meta"), no_init_weights():
            model: Any = network(self.stored, folder)
        model.load_state_dict(self.state_dict(), strict=True, assign=True)
        return model.eval()


class StackWeights(nn.Module):
    """The layers of an encoder or a decoder."""

    def __init__(self, config: Any, rows: int, *, decoder: bool) -> None:
        super().__init__()
        self.embed_tokens = _embedding(rows, config.d_model)
        layers = config.num_decoder_layers if decoder else config.num_layers
        self.block = nn.ModuleList(
            _Block(config, decoder=decoder, bias=place == 0) for place in range(layers)
        )
        self.final_layer_norm = _Norm(config)

    def get_input_embeddings(self) -> nn.Embedding:
        """Returns the embedding."""
        return self.embed_tokens


class _Block(nn.Module):
    def __init__(self, config: Any, *, decoder: bool, bias: bool) -> None:
        super().__init__()
        parts = [_Part("SelfAttention", _Attention(config, decoder=decoder, bias=bias), config)]
        if decoder:
            cross = _Attention(config, decoder=True, bias=False)
            parts.append(_Part("EncDecAttention", cross, config))
        gated = config.feed_forward_proj == "gated-gelu"
        dense = GatedDenseWeights(config) if gated else DenseWeights(config)
        self.layer = nn.ModuleList([*parts, _Part("DenseReluDense", dense, config)])


class _Part(nn.Module):
    """A sub-layer and the norm before it."""

    def __init__(self, name: str, module: nn.Module, config: Any) -> None:
        super().__init__()
        self.add_module(name, module)
        self.layer_norm = _Norm(config)


class _Norm(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.d_model, device="meta"))
        self.variance_epsilon = config.layer_norm_epsilon


class _Attention(nn.Module):
    def __init__(self, config: Any, *, decoder: bool, bias: bool) -> None:
        super().__init__()
        self.n_heads = config.num_heads
        self.inner_dim = config.num_heads * config.d_kv
        self.is_decoder = decoder
        self.relative_attention_num_buckets = config.relative_attention_num_buckets
        self.relative_attention_max_distance = config.relative_attention_max_distance
        self.q, self.k, self.v = (_linear(config.d_model, self.inner_dim) for _ in range(3))
        self.o = _linear(self.inner_dim, config.d_model)
        if bias:
            buckets = config.relative_attention_num_buckets
            self.relative_attention_bias = _embedding(buckets, config.num_heads)

    def compute_bias(
        self, rows: int, columns: int, device: torch.device | None = None
    ) -> torch.Tensor:
        """Returns the position bias of each head; floating [1, heads, rows, columns]."""
        places = torch.arange(columns, device=device) - torch.arange(rows, device=device)[:, None]
        buckets = self._relative_position_bucket(
            places,
            bidirectional=not self.is_decoder,
            num_buckets=self.relative_attention_num_buckets,
            max_distance=self.relative_attention_max_distance,
        )
        return self.relative_attention_bias(buckets).permute(2, 0, 1).unsqueeze(0)

    @staticmethod
    def _relative_position_bucket(
        places: torch.Tensor, bidirectional: bool, num_buckets: int, max_distance: int
    ) -> torch.Tensor:
        """Returns the bucket of each distance: one per distance nearby, then ever wider ones.

        Raffel et al., JMLR 2020, section 2.1: half of the buckets hold one distance each, the other
        half grow logarithmically up to the largest distance, beyond which there is one bucket.
        """
        first: torch.Tensor | int = 0
        if bidirectional:
            num_buckets //= 2
            first = (places > 0).to(torch.int64) * num_buckets
            distances = places.abs()
        else:
            distances = (-places).clamp(min=0)
        exact = num_buckets // 2
        ratio = torch.log(distances.float() / exact) / math.log(max_distance / exact)
        wide = exact + (ratio * (num_buckets - exact)).to(torch.int64)
        return first + torch.where(distances < exact, distances, wide.clamp(max=num_buckets - 1))


class DenseWeights(nn.Module):
    """The feed-forward layer of T5."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.wi = _linear(config.d_model, config.d_ff)
        self.wo = _linear(config.d_ff, config.d_model)
        self.act = nn.ReLU()


class GatedDenseWeights(nn.Module):
    """The feed-forward layer of mT5 and Flan-T5: gated, with the tanh approximation of GELU."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.wi_0, self.wi_1 = (_linear(config.d_model, config.d_ff) for _ in range(2))
        self.wo = _linear(config.d_ff, config.d_model)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Returns the output to add to the states; [..., width] in and out."""
        gate = self.wi_0(states)
        inner = math.sqrt(2.0 / math.pi) * (gate + 0.044715 * torch.pow(gate, 3.0))
        return self.wo(0.5 * gate * (1.0 + torch.tanh(inner)) * self.wi_1(states))


def readable(stored: Any) -> bool:
    """Tells whether a saved configuration is a standard one of T5 or mT5."""
    if not isinstance(stored, dict) or any(stored.get(key) for key in _OTHERS):
        return False
    architectures = stored.get("architectures")
    sizes = [stored.get(key) for key in (*_SIZES, *_LAYERS)]
    if not all(type(size) is int and 0 <= size < _LARGEST for size in sizes):
        return False
    epsilon = stored.get("layer_norm_epsilon")
    return (
        architectures == [_ARCHITECTURES.get(str(stored.get("model_type")))]
        and all(stored[key] > 0 for key in _SIZES)
        and stored["relative_attention_num_buckets"] >= 4
        and stored["relative_attention_max_distance"] > stored["relative_attention_num_buckets"]
        and stored.get("feed_forward_proj") in _FEED_FORWARDS
        and stored.get("dtype") in (None, "float32")
        and isinstance(epsilon, float)
        and 0 < epsilon < 1
    )


def read_weights(folder: Path, device: str | torch.device) -> T5Weights | None:
    """Reads a model for search; None if that needs transformers.

    Args:
        folder: A folder that `dsi.backbones.backbone.save_backbone` wrote.
        device: Device of the model.

    Raises:
        InputError: A file is damaged, or the weights do not match the configuration.
    """
    from safetensors.torch import load_file

    stored = read_json(folder / CONFIG)
    shapes = check_weights(folder / WEIGHTS)
    if not readable(stored) or any(stored[key] > len(shapes) for key in _LAYERS):
        return None
    refuse_foreign_code(stored, folder / CONFIG)
    check_sizes(stored, len(shapes), folder / CONFIG)
    try:
        network: Any = T5Weights(stored)
    except (RuntimeError, OverflowError):  # sizes whose product overflows
        return None
    compare(network, shapes, folder / WEIGHTS)
    tensors = {
        name: tensor.to(torch.float32, copy=True)
        for name, tensor in load_file(folder / WEIGHTS).items()
    }
    network.load_state_dict(tensors, strict=False, assign=True)
    check_finite(network, folder / WEIGHTS)
    if any(weight.is_meta for weight in network.parameters()):
        raise InputError("weights are missing", where=folder / WEIGHTS)
    return network.to(device).eval()


def _linear(read: int, written: int) -> nn.Linear:
    """Returns a linear layer with unallocated weights, which are read later."""
    layer = nn.Linear(1, 1, bias=False)
    layer.in_features, layer.out_features = read, written
    layer.weight = nn.Parameter(torch.empty(written, read, device="meta"))
    return layer


def _embedding(rows: int, width: int) -> nn.Embedding:
    """Returns an embedding with unallocated weights, which are read later."""
    layer = nn.Embedding(1, 1)
    layer.num_embeddings, layer.embedding_dim = rows, width
    layer.weight = nn.Parameter(torch.empty(rows, width, device="meta"))
    return layer
