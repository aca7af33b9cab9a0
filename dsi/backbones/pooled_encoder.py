"""Encoder-only models and static embeddings as the encoder of an index model.

Such a model computes one vector per text: it pools the token states (mean, first, last, ...),
applies the layers after the pooling and normalizes, as its sentence-transformers folder specifies.
Here every position of the text holds that vector. A decoder's cross-attention is a weighted mean
over positions, so it reads the vector for any weights, and decoders, masks and searches need no
special case.

The configuration of the model describes the parts of the encoder
(`dsi.backbones.network_config.ENCODER`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from data_prep.errors import InputError
from docids.muvera import MuveraOptions
from dsi.backbones.muvera_pooling import MuveraPooling
from dsi.backbones.network_config import ENCODER, known_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KINDS = (
    "albert", "bert", "big_bird", "camembert", "convbert", "deberta", "deberta-v2", "distilbert",
    "electra", "ernie", "eurobert", "jina_embeddings_v3", "longformer", "mobilebert", "modernbert",
    "mpnet", "nomic_bert", "nystromformer", "rembert", "roberta", "roberta-prelayernorm",
    "roformer", "squeezebert", "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip
"""Encoder-only models of transformers, by `model_type`."""
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""Pooling modes, as sentence-transformers names them; the outputs of several are concatenated."""
ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
}
_MOST_WIDTH = 1 << 16
_MOST_ROWS = 1 << 24
_MOST_LAYERS = 16


class PooledEncoder(nn.Module):
    """An encoder whose states are one vector of the text, repeated at every position.

    Args:
        settings: Its parts, as `check_settings` requires:

            config: The configuration of the model of transformers, as a dictionary; None for static
                embeddings, which are the mean of the vectors of tokens.
            rows, width: Of static embeddings; the last row is that of a text without tokens.
            pooling: Names in `POOLINGS`; one or more.
            layers: What follows: {"kind": "normalize"} scales to length 1; {"kind": "dense",
                "inputs", "outputs", "bias", "activation", "residual"} is a linear layer.
            longest: Most tokens of a text.
            unit: The length of vectors that counts as 1; 1.0 for those that are compared by cosine.
            muvera: If given, the size and seed of fixed-dimensional encodings that take the place
                of pooling and layers (`dsi.backbones.muvera_pooling`).

    Attributes:
        settings: The same.
        width: Width of the vectors.
        unit: As in the settings.
    """

    main_input_name = "input_ids"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.settings = dict(settings)
        self.unit = float(settings["unit"])
        self.pooling: tuple[str, ...] = tuple(settings["pooling"])
        if settings["config"] is None:
            self.network: Any = nn.Embedding(settings["rows"], settings["width"])
        else:
            self.network = _network(settings["config"])
        self.projection = nn.ModuleList(
            _Dense(layer) if layer["kind"] == "dense" else _Normalize()
            for layer in settings["layers"]
        )
        self.width = self._width()
        self.encoding: MuveraPooling | None = None
        if settings.get("muvera"):
            self.encoding = MuveraPooling(self.width, settings["muvera"])
            self.width = self.encoding.dimensions

    def _width(self) -> int:
        """Returns the width of the vectors.

        Raises:
            ValueError: The input width of a layer differs from the output width of the previous
                one.
        """
        if isinstance(self.network, nn.Embedding):
            width = self.network.embedding_dim * len(self.pooling)
        else:
            width = int(self.network.config.hidden_size) * len(self.pooling)
        for layer in self.settings["layers"]:
            if layer["kind"] == "dense":
                if layer["inputs"] != width:
                    raise ValueError(
                        f"a layer expects {layer['inputs']} inputs, but its input has {width}"
                    )
                width = int(layer["outputs"])
        return width

    def get_input_embeddings(self) -> nn.Embedding:
        """Returns the token embedding."""
        if isinstance(self.network, nn.Embedding):
            return self.network
        embeddings: nn.Embedding = self.network.get_input_embeddings()
        return embeddings

    def set_input_embeddings(self, embedding: nn.Embedding) -> None:
        """Replaces the token embedding."""
        if isinstance(self.network, nn.Embedding):
            self.network = embedding
        else:
            self.network.set_input_embeddings(embedding)

    def train(self, mode: bool = True) -> PooledEncoder:
        """Puts the encoder into training mode, unless it is frozen: then there is no dropout."""
        moves = any(weight.requires_grad for weight in self.parameters())
        super().train(mode and moves)
        self.training = mode
        return self

    def vectors(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Returns the vector of each text.

        Args:
            input_ids: Tokens, right-padded; int64 [texts, length].
            attention_mask: 1 at tokens, 0 at padding; [texts, length].

        Returns:
            Floating [texts, width].
        """
        states = self._states(input_ids, attention_mask)
        if self.encoding is not None:
            encoded: torch.Tensor = self.encoding(states, attention_mask)
            return encoded
        pooled = torch.cat([_pooled(states, attention_mask, name) for name in self.pooling], dim=-1)
        for layer in self.projection:
            pooled = layer(pooled)
        return pooled

    def document_vectors(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """Returns the vector of each document, which differs from a query's with `muvera` only.

        Args and result are those of `vectors`.
        """
        if self.encoding is None:
            return self.vectors(input_ids, attention_mask)
        return self.encoding.documents(self._states(input_ids, attention_mask), attention_mask)

    def _states(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Returns the states of tokens; floating [texts, length, hidden size]."""
        states: torch.Tensor
        if isinstance(self.network, nn.Embedding):
            states = self.network(input_ids)
            return states
        pad = getattr(self.network.config, "pad_token_id", None) or 0
        # RoBERTa derives positions from the padding tokens, and padding is 0 here.
        tokens = input_ids.masked_fill(attention_mask == 0, pad)
        states = self.network(input_ids=tokens, attention_mask=attention_mask).last_hidden_state
        return states

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        return_dict: bool | None = None,
        **options: Any,
    ) -> Any:
        """Encodes texts like transformers encoders; further options have no effect.

        Returns:
            A `BaseModelOutput` whose `last_hidden_state` is floating [texts, length, width].
        """
        from transformers.modeling_outputs import BaseModelOutput

        if input_ids is None:
            raise ValueError("this encoder takes tokens (input_ids), not vectors")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        outputs = self.vectors(input_ids, attention_mask)
        states = outputs.unsqueeze(1).expand(-1, input_ids.shape[1], -1)
        return BaseModelOutput(last_hidden_state=states)


class _Dense(nn.Module):
    """A sentence-transformers linear layer, with activation and optional residual connection."""

    def __init__(self, layer: Mapping[str, Any]) -> None:
        super().__init__()
        inputs, outputs = layer["inputs"], layer["outputs"]
        self.linear = nn.Linear(inputs, outputs, bias=layer["bias"])
        self.activation = ACTIVATIONS[layer["activation"]]()
        self.residual: nn.Module | None = None
        if layer["residual"]:
            self.residual = (
                nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs, bias=False)
            )

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.activation(self.linear(states))
        return outputs if self.residual is None else outputs + self.residual(states)


class _Normalize(nn.Module):
    """Scales vectors to norm 1; 0 stays 0."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return functional.normalize(states, dim=-1)


def _pooled(states: torch.Tensor, attention_mask: torch.Tensor, name: str) -> torch.Tensor:
    """Returns one state for each text; [texts, width]."""
    mask = attention_mask.unsqueeze(-1).to(states.dtype)
    if name == "cls":
        return states[:, 0]
    if name == "lasttoken":
        last = attention_mask.sum(dim=1).sub(1).clamp_min(0)
        return states[torch.arange(len(states), device=states.device), last]
    if name == "max":
        return states.masked_fill(mask == 0, float("-inf")).amax(dim=1)
    if name == "weightedmean":
        places = torch.arange(1, states.shape[1] + 1, device=states.device, dtype=states.dtype)
        mask = mask * places.view(1, -1, 1)
    summed, weight = (states * mask).sum(dim=1), mask.sum(dim=1).clamp_min(1e-9)
    return summed / (weight.sqrt() if name == "mean_sqrt_len_tokens" else weight)


def _network(stored: Mapping[str, Any]) -> nn.Module:
    """Builds a transformers model in float32, without the unused pooler."""
    from transformers import AutoModel

    network: Any = AutoModel.from_config(known_config(stored), dtype=torch.float32)
    if getattr(network, "pooler", None) is not None:
        network.pooler = None
    return network


def pooled(model: nn.Module) -> bool:
    """Whether the encoder of a model is a pooled encoder."""
    network: Any = model
    return hasattr(network, "get_encoder") and isinstance(network.get_encoder(), PooledEncoder)


def attach(model: PreTrainedModel, encoder: PooledEncoder) -> PreTrainedModel:
    """Replaces a T5's encoder in place, and records it in the configuration.

    Raises:
        ValueError: The width of the decoder differs from that of its vectors.
    """
    network: Any = model
    if encoder.width != network.config.d_model:
        raise ValueError(
            f"the encoder has a width of {encoder.width}, but the network has "
            f"{network.config.d_model}"
        )
    network.encoder = encoder
    setattr(model.config, ENCODER, encoder.settings)
    return model


def check_settings(settings: Any, where: Path) -> None:
    """Refuses invalid settings from a file.

    Raises:
        InputError: A name is unknown, or a number is invalid.
    """

    def refuse(what: str) -> InputError:
        return InputError(f"{ENCODER}: {what:.200}", where=where)

    if not isinstance(settings, dict):
        raise refuse(f"{settings!r:.60} is not an encoder")
    config, pooling, layers = (settings.get(key) for key in ("config", "pooling", "layers"))
    if config is None:
        sizes = {"rows": _MOST_ROWS, "width": _MOST_WIDTH}
        for name, most in sizes.items():
            if not _whole(settings.get(name), most):
                raise refuse(f"{name} is {settings.get(name)!r:.60}")
    elif not isinstance(config, dict) or config.get("model_type") not in KINDS:
        kind = config.get("model_type") if isinstance(config, dict) else config
        raise refuse(f"{kind!r:.60} is not an encoder-only model of transformers")
    else:
        for key in ("auto_map", "quantization_config", "custom_pipelines"):
            if config.get(key):
                raise refuse(f"{key!r} is not allowed in an index")
    if not isinstance(pooling, list) or not 0 < len(pooling) <= len(POOLINGS):
        raise refuse(f"pooling is {pooling!r:.60}")
    if any(name not in POOLINGS for name in pooling):
        raise refuse(f"pooling is {pooling!r:.60}")
    if not isinstance(layers, list) or len(layers) > _MOST_LAYERS:
        raise refuse(f"layers are {layers!r:.60}")
    for layer in layers:
        if not _known_layer(layer):
            raise refuse(f"a layer is {layer!r:.120}")
    if not _whole(settings.get("longest"), 1 << 31):
        raise refuse(f"longest is {settings.get('longest')!r:.60}")
    if settings.get("muvera") is not None:
        _check_muvera(settings["muvera"], refuse)
    unit = settings.get("unit")
    if not isinstance(unit, float) or not 0 < unit < float("inf"):
        raise refuse(f"unit is {unit!r:.60}")


def _check_muvera(settings: Any, refuse: Callable[[str], InputError]) -> None:
    """Refuses a size of encodings that cannot be, or that would fill the memory."""
    names = {*(entry.name for entry in fields(MuveraOptions)), "seed"}
    if not isinstance(settings, dict) or settings.keys() != names:
        raise refuse(f"muvera is {settings!r:.120}")
    if any(type(value) is not int for value in settings.values()):
        raise refuse(f"muvera is {settings!r:.120}")
    size = {name: value for name, value in settings.items() if name != "seed"}
    try:
        options = MuveraOptions(**size)
    except InputError as error:
        raise refuse(f"muvera: {error}") from None
    total = options.repetitions * (1 << options.bits) * options.projection
    if total > _MOST_ROWS or (options.final or total) > _MOST_WIDTH or settings["seed"] < 0:
        raise refuse(f"muvera is {settings!r:.120}")


def _known_layer(layer: Any) -> bool:
    if not isinstance(layer, dict):
        return False
    if layer.get("kind") == "normalize":
        return True
    return (
        layer.get("kind") == "dense"
        and _whole(layer.get("inputs"), _MOST_WIDTH)
        and _whole(layer.get("outputs"), _MOST_WIDTH)
        and isinstance(layer.get("bias"), bool)
        and isinstance(layer.get("residual"), bool)
        and layer.get("activation") in list(ACTIVATIONS)
    )


def _whole(value: Any, most: int) -> bool:
    return type(value) is int and 1 <= value <= most
