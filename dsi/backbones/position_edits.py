"""Edits of a decoder layer, each of which acts at one position of an identifier only.

A closed-form edit (GenRecEdit, arXiv 2603.14259; DOME, arXiv 2603.02773) adds a matrix to the
output layer of a feed-forward network. Identifiers are short, so each position has a matrix of its
own. Here it multiplies the input x of the network, not its hidden units: they are few in a small
network, and states of new and of old documents are hard to tell apart by them. At position p,

    FFN(x) + x edit[p]^T

and FFN(x) behind the last edited position and at the tokens of a language model's prompt. The
network is the decoder's last one: no other position reads its output, so an edit changes the logits
at its own position and no others.

Edits are a buffer of the layer, stored with the weights and never trained. The model keeps its
transformers class; `EDITS` in its configuration is the number of positions.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional

from data_prep.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EDITS = "dsi_edits"
"""Key in config.json: number of edited positions; absent without edits."""

_depths: ContextVar[torch.Tensor | None] = ContextVar("depths", default=None)
_input: ContextVar[torch.Tensor | None] = ContextVar("input", default=None)


@contextmanager
def rows_at(depths: torch.Tensor) -> Iterator[None]:
    """Sets the position of each row that edited layers read, in this thread.

    Args:
        depths: Position in the identifier, from 0; -1 for a token of a prompt; int64 [rows].
    """
    token = _depths.set(depths)
    try:
        yield
    finally:
        _depths.reset(token)


class Watched(nn.Module):
    """The first layer of an edited feed-forward network, which keeps its input for the last."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Returns the output of the layer; [..., rows, in] to [..., rows, out]."""
        _input.set(states)
        base: Any = super()
        out: torch.Tensor = base.forward(states)
        return out


class Edited(nn.Module):
    """The last layer of a feed-forward network, with an edit for each position.

    Attributes:
        edit: The edits; floating [positions, out, width], which multiply the network's input.
        prompted: Whether rows may be tokens of a prompt, so that their positions must be given.
    """

    edit: torch.Tensor
    prompted: bool = False

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Returns the output of the edited network; [..., rows, in] to [..., rows, out]."""
        base: Any = super()
        out: torch.Tensor = base.forward(states)
        network_input = _input.get()
        if network_input is None:
            raise RuntimeError("an edited layer was called without the first one of its network")
        _input.set(None)
        depths = _depths.get()
        if depths is None:
            if self.prompted:
                raise RuntimeError("an edited layer was called without the positions of its rows")
            depths = torch.arange(states.shape[-2], device=states.device)
        for position in range(len(self.edit)):
            rows = (depths == position).nonzero().squeeze(1)
            if len(rows):
                some = (
                    network_input
                    if len(rows) == len(depths)
                    else network_input.index_select(-2, rows)
                )
                added = functional.linear(some, self.edit[position].to(some.dtype))
                out = out.index_add(-2, rows, added.to(out.dtype))
        return out


@functools.cache
def _class_with(base: type[nn.Module], kind: type[nn.Module]) -> type[nn.Module]:
    return type(f"{base.__name__}{kind.__name__}", (base, kind), {})


@dataclass(frozen=True)
class Place:
    """The last feed-forward network of a decoder, and what follows it.

    Attributes:
        name: Name of its output layer in the model.
        first: A layer that reads its input.
        layer: The output layer.
        after: What its output goes through before it is added to the residual; None for nothing.
        norm: The norm that reads the sum.
    """

    name: str
    first: nn.Module
    layer: nn.Module
    after: nn.Module | None
    norm: nn.Module


def place_of(model: PreTrainedModel, strategy: str = "edit") -> Place:
    """Finds the layer to edit.

    Args:
        model: The model.
        strategy: The strategy that asks, for messages.

    Raises:
        InputError: The decoder is neither like T5's nor a known language model.
    """
    decoder: Any = model.get_decoder().base_model
    first = layer = after = norm = None
    if _prompted(model):
        network = decoder.language_model
        blocks = getattr(network, "layers", None) or getattr(network, "h", None)
        block = blocks[-1] if blocks is not None else None
        inner = getattr(block, "mlp", None)
        layer = getattr(inner, "down_proj", None) or getattr(inner, "c_proj", None)
        first = _one_of(inner, ("gate_proj", "gate_up_proj", "up_proj", "c_fc"))
        after = getattr(block, "post_feedforward_layernorm", None)
        norm = getattr(network, "norm", None) or getattr(network, "ln_f", None)
    elif hasattr(decoder, "block"):
        inner = getattr(decoder.block[-1].layer[-1], "DenseReluDense", None)
        layer, first = getattr(inner, "wo", None), _one_of(inner, ("wi", "wi_0"))
        norm = decoder.final_layer_norm
    if first is None or layer is None or norm is None:
        raise InputError(
            f"--strategy {strategy} supports the decoders of the T5 family and language models "
            f"with a gated or GPT-2 feed-forward network, not {type(model).__name__}",
            hint="Use another --strategy, such as generative+ewc",
        )
    name = next(name for name, part in model.named_modules() if part is layer)
    return Place(name, first, layer, after, norm)


def _one_of(network: Any, names: tuple[str, ...]) -> nn.Module | None:
    """Returns the first of these layers that a network has."""
    return next((part for name in names if (part := getattr(network, name, None))), None)


def edited_layer(model: nn.Module) -> Edited | None:
    """Returns the edited layer of a model; None if it has no edits."""
    return next((part for part in model.modules() if isinstance(part, Edited)), None)


def add_edits(model: PreTrainedModel, positions: int) -> Edited:
    """Gives a model room for edits at this many positions, in place; keeps those it has.

    Args:
        model: The model; new edits are zero.
        positions: Number of positions, at least.

    Raises:
        InputError: See `place_of`.
    """
    place = place_of(model)
    first, layer = place.first, cast(Any, place.layer)
    weight: torch.Tensor = layer.weight
    if not isinstance(layer, Edited):
        # GPT-2's layers store their weights transposed.
        linear = isinstance(layer, nn.Linear)
        out = weight.shape[0 if linear else 1]
        read = cast(Any, first).weight.shape[1 if linear else 0]
        kinds: Any = type(first), type(layer)
        first.__class__ = _class_with(Watched, kinds[0])
        layer.__class__ = _class_with(Edited, kinds[1])
        layer.register_buffer("edit", weight.new_zeros((0, out, read), requires_grad=False))
        layer.prompted = _prompted(model)
        if not layer.prompted:
            decoder: Any = model.get_decoder()
            decoder.register_forward_pre_hook(_count_from_cache, with_kwargs=True)
            decoder.register_forward_hook(_forget, always_call=True)
    more = max(0, positions - len(layer.edit))
    layer.edit = functional.pad(layer.edit, (0, 0, 0, 0, 0, more))
    setattr(model.config, EDITS, len(layer.edit))
    return layer


def _prompted(model: PreTrainedModel) -> bool:
    """Whether the decoder also reads the prompt; the module of these models imports this one."""
    return hasattr(model.get_decoder(), "language_model")


def _count_from_cache(decoder: nn.Module, arguments: Any, keywords: dict[str, Any]) -> None:
    """Sets the positions of rows that continue a cache, as in `generate`."""
    cache = keywords.get("past_key_values")
    codes: Any = next(
        each
        for each in (keywords.get("input_ids"), *arguments, keywords.get("inputs_embeds"))
        if each is not None
    )
    before = 0 if cache is None else int(cache.get_seq_length())
    _depths.set(torch.arange(before, before + codes.shape[1], device=codes.device))


def _forget(decoder: nn.Module, arguments: Any, output: Any) -> None:
    _depths.set(None)
