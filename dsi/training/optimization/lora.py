"""Low-rank adapters (LoRA, Hu et al. 2022) instead of training the backbone, through peft."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D  # the linear layers of GPT-2

from data_prep.errors import InputError
from dsi.training.options import LoraOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MARKS = ("lora_", "parallel_adapter.")
"""Substring of the names of peft's weights and of side memories (`updating.structures`)."""


def is_adapter(name: str) -> bool:
    """Returns whether the named weight belongs to an adapter or a side memory."""
    return any(mark in name for mark in _MARKS)


def add_adapters(
    model: PreTrainedModel, options: LoraOptions, *, seed: int, encoder: bool = True
) -> None:
    """Adds adapters to linear layers in place: their output becomes W x + scale * B A x.

    B starts at zero, so that the output of the model is unchanged at first.

    Args:
        model: The model.
        options: Adapted layers, rank and other LoRA options.
        seed: Seed of the random weights of A.
        encoder: Whether the encoder's layers get adapters too.

    Raises:
        InputError: peft is not installed, no layer has a requested name, or the rank is higher than
            that of any adapted matrix.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise InputError(
            f"--lora.rank {options.rank} requires the package peft",
            hint="pip install 'dsi-toolkit[peft]', or omit the option",
        ) from None
    targets = _targets(model, options.targets, encoder)
    _check_rank(model, targets, options.rank)
    config = LoraConfig(
        r=options.rank,
        lora_alpha=2 * options.rank if options.alpha is None else options.alpha,
        lora_dropout=options.dropout,
        target_modules=targets,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)


def _check_rank(model: PreTrainedModel, targets: Sequence[str], rank: int) -> None:
    shapes = [getattr(model.get_submodule(name), "weight").shape for name in targets]  # noqa: B009
    highest = max((min(shape) for shape in shapes), default=rank)
    if rank > highest:
        raise InputError(
            f"--lora.rank {rank} is higher than the rank of any matrix that would be adapted",
            hint=f"Give at most {highest}",
        )


def merge_adapters(model: PreTrainedModel) -> None:
    """Merges every adapter into the weights of its layer and removes it, in place.

    The model then has the same class and layers as before `add_adapters`.
    """
    if not any(is_adapter(name) for name, _ in model.named_parameters()):
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [name for name, part in model.named_modules() if isinstance(part, BaseTunerLayer)]
    for name in adapted:
        layer: Any = model.get_submodule(name)
        layer.merge()
        owner, _, own_name = name.rpartition(".")
        setattr(model.get_submodule(owner), own_name, layer.get_base_layer())


def _targets(model: PreTrainedModel, requested: Sequence[str], encoder: bool) -> list[str]:
    """Returns the full names of the linear layers that get an adapter."""
    head = model.get_output_embeddings()
    inside = set() if encoder else set(model.get_encoder().modules())
    layers = [
        name
        for name, part in model.named_modules()
        if isinstance(part, (nn.Linear, Conv1D)) and part is not head and part not in inside
    ]
    if not requested:
        return layers
    available = sorted({name.rpartition(".")[2] for name in layers})
    for name in requested:
        if name not in available:
            raise InputError(
                f"--lora.targets: this model has no linear layer {name!r}",
                hint=f"Choose from: {', '.join(available)}",
            )
    return [name for name in layers if name.rpartition(".")[2] in requested]
