"""Optimizers by name, and the groups of weights that each step trains."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from data_prep.errors import InputError
from dsi.backbones.language_model import is_prompted
from dsi.backbones.pooled_encoder import pooled
from dsi.training.optimization.lora import is_adapter
from dsi.training.optimization.row_adamw import RowAdamW
from dsi.training.options import BACKBONE_LR_SCALE, OptimizerOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LAYER = re.compile(
    r"(encoder|decoder)\.(?:(?:network|language_model)\.(?:[a-z_]+\.)??)??"
    r"(?:block|layers?|h)\.(\d+)\."
)
_CROSS = re.compile(r"\.(EncDecAttention|encoder_attn|crossattention)\.")


def make_optimizer(model: PreTrainedModel, options: OptimizerOptions) -> torch.optim.Optimizer:
    """Returns the optimizer selected by the options, over the groups of `parameter_groups`."""
    groups = parameter_groups(model, options)
    tables: list[Any] = [
        each.get_input_embeddings() for each in (model.get_encoder(), model.get_decoder())
    ]
    for table in tables:
        # Gradients then cover only the rows in the batch.
        table.sparse = options.rows == "touched"
    if options.name == "adafactor":
        return torch.optim.Adafactor(groups, lr=options.lr, weight_decay=options.weight_decay)
    kind = RowAdamW if options.rows == "touched" else torch.optim.AdamW
    return kind(
        groups,
        lr=options.lr,
        betas=(0.9, options.beta2),
        weight_decay=options.weight_decay,
        fused=True,
    )


def parameter_groups(model: PreTrainedModel, options: OptimizerOptions) -> list[dict[str, Any]]:
    """Returns the trained weights in groups, each with a multiplier of the learning rate.

    Embeddings and output rows (with `dsi.backbones.pawa`) have scale 1. The backbone has its own
    scale, which `layer_decay` lowers from layer to layer. If it has adapters, they are trained
    instead of it. All other weights are frozen, and their gradients are not computed.

    Raises:
        InputError: All weights are frozen.
    """
    backbone = BACKBONE_LR_SCALE if options.backbone_lr_scale is None else options.backbone_lr_scale
    adapted = any(is_adapter(name) for name, _ in model.named_parameters())
    text = model.get_encoder().get_input_embeddings().weight
    rows = {
        id(model.get_decoder().get_input_embeddings().weight),
        id(model.get_output_embeddings().weight),
    }
    if not (pooled(model) or is_prompted(model)):  # its token rows are pretrained too
        rows.add(id(text))
    frozen = _frozen(model, options)
    depths = layers_above(name for name, _ in model.named_parameters())
    shares: dict[int, float] = {}
    for name, weight in model.named_parameters():
        if id(weight) in frozen:
            continue
        if name.startswith("pawa."):
            shares[id(weight)] = 1.0  # of the output layer, and as new
        elif id(weight) in rows:
            # Identifier rows are new; token rows count as the encoder's lowest layer.
            depth = depths[name] if weight is text else 0
            shares[id(weight)] = options.layer_decay**depth
        elif is_adapter(name) or not adapted:
            shares[id(weight)] = backbone * options.layer_decay ** depths[name]
    groups: dict[tuple[bool, float], list[torch.Tensor]] = {}
    for weight in model.parameters():
        share = shares.get(id(weight), 0.0)
        weight.requires_grad_(share > 0)
        if share > 0:
            groups.setdefault((id(weight) not in rows, -share), []).append(weight)
    if not groups:
        raise InputError(
            "nothing would be trained: every weight is frozen",
            hint="Set --optimizer.backbone_lr_scale, or omit --optimizer.freeze_encoder",
        )
    return [{"params": groups[key], "share": -key[1]} for key in sorted(groups)]


def _frozen(model: PreTrainedModel, options: OptimizerOptions) -> set[int]:
    """Returns the weights that the options freeze, whatever their learning-rate multiplier."""
    encoder = set(map(id, model.get_encoder().parameters()))
    codes = {
        id(model.get_decoder().get_input_embeddings().weight),
        id(model.get_output_embeddings().weight),
    }
    frozen = set(encoder) if options.freeze_encoder else set()
    if options.rows == "frozen":
        frozen |= codes
    if options.decoder == "cross-attention":
        parameters = list(model.named_parameters())
        if not any(_CROSS.search(name) for name, _ in parameters):
            raise InputError(
                "--optimizer.decoder cross-attention: this decoder has no cross-attention",
                hint="Use --optimizer.decoder all",
            )
        resting = encoder | codes
        frozen |= {
            id(weight)
            for name, weight in parameters
            if id(weight) not in resting and not _CROSS.search(name) and not is_adapter(name)
        }
    return frozen


def layers_above(names: Iterable[str]) -> dict[str, int]:
    """Returns the number of layers above each weight in its stack, by the weight's name.

    Weights before the first layer of a stack are below all layers; weights after the last layer,
    and the output layer, are below none.
    """
    listed = list(names)
    matches = {name: _LAYER.search(name) for name in listed}
    layers = {"encoder": 0, "decoder": 0}
    for match in matches.values():
        if match:
            layers[match[1]] = max(layers[match[1]], int(match[2]) + 1)
    depths = {}
    for name, match in matches.items():
        stack = "encoder" if "encoder." in name else "decoder"
        if match:
            depths[name] = layers[stack] - 1 - int(match[2])
        else:
            depths[name] = layers[stack] if "emb" in name or name.startswith("shared") else 0
    return depths
