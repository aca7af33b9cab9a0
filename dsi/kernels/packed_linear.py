"""Linear layers for search on a CPU, with weights in the layout that oneDNN reads.

A search multiplies a few rows by the same weights over and over. A library would repack the weights
for each product; here they are packed once. Where oneDNN cannot multiply (`dsi.kernels.matmul`),
layers are left unchanged.
"""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from data_prep.errors import InputError
from dsi.backbones.position_edits import Edited, Watched
from dsi.kernels.int8_linear import Int8Linear, has_int8_kernel
from dsi.kernels.matmul import has_onednn_kernel, onednn_linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOGETHER = {"SelfAttention": ("q", "k", "v"), "EncDecAttention": ("k", "v")}
"""Layers of T5 that read the same states, by the name of the module that has them."""
_EXACT = {"EncDecAttention": ("k", "v", "o"), "encoder_attn": ("k_proj", "v_proj", "out_proj")}
"""Layers that stay in float32 in bf16: through them a query comes into the states, and their errors
move the ranking most (`benchmarks/guidance.py`)."""

_ROUNDED_HEAD = "rounded_head"


class PackedLinear(nn.Module):
    """A linear layer for inference only: it can be neither trained nor saved.

    Args:
        layer: The layer to take the weights from, on a CPU.
        dtype: Dtype of the products: float32 or bfloat16. They are summed in float32.
    """

    def __init__(self, layer: nn.Linear, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.in_features = layer.in_features
        self.out_features = layer.out_features
        weight = layer.weight.detach().to(dtype or layer.weight.dtype)
        # An attribute, not a parameter: models read the dtype of `weight`.
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        self.bias = None if layer.bias is None else layer.bias.detach().to(weight.dtype)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Returns the products, [..., out], in the dtype of the states, floating [..., in]."""
        return self.linear(states).to(states.dtype)

    def linear(self, states: torch.Tensor, activation: str = "none") -> torch.Tensor:
        """Returns the products in the dtype of their computation.

        Args:
            states: The input; floating [..., in].
            activation: Activation of the products: "none" or "relu".
        """
        return onednn_linear(states.to(self.weight.dtype), self.weight, self.bias, activation)


class PackedPart(nn.Module):
    """One of several layers that read the same states and are computed as a single product.

    Args:
        whole: The combined layer.
        outputs: The slice of its outputs that belongs to this layer.
    """

    def __init__(self, whole: PackedLinear | Int8Linear, outputs: slice) -> None:
        super().__init__()
        self.whole = whole
        self.outputs = outputs
        self.in_features = whole.in_features
        self.out_features = outputs.stop - outputs.start

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Returns this part of the product, which is computed as a whole; see `together`."""
        return self.whole(states)[..., self.outputs]


def together(states: torch.Tensor, *layers: nn.Module) -> torch.Tensor:
    """Returns the concatenated outputs of layers for the same states; floating [..., outs].

    The result has the dtype of the computation.
    """
    parts = [layer for layer in layers if isinstance(layer, PackedPart)]
    if len(parts) == len(layers):
        whole = parts[0].whole
        outputs = sum(part.out_features for part in parts if part.whole is whole)
        if outputs == whole.out_features:
            return whole.linear(states)
    return torch.cat([layer(states) for layer in layers], dim=-1)


PACKED = (PackedLinear, Int8Linear)
"""Layers with a product of their own in place of that of `nn.Linear`."""


def linear_of(layer: nn.Module, states: torch.Tensor) -> torch.Tensor:
    """Returns the output of a layer in the dtype of its computation, to add to other states."""
    return layer.linear(states) if isinstance(layer, PACKED) else layer(states)


def relu_of(layer: nn.Module, states: torch.Tensor) -> torch.Tensor:
    """Returns the ReLU of a layer's output, in the dtype of its computation."""
    if isinstance(layer, PACKED):
        return layer.linear(states, "relu")
    return layer(states).relu_()


def plain(*modules: Any) -> bool:
    """Whether all of these are plain linear layers, with no wrapper around them or their weights.

    Weights that DeepSpeed's ZeRO-3 shards over processes are gathered in `forward` only.
    """
    return all(
        isinstance(module, (PackedLinear, Int8Linear, PackedPart))
        or (
            (type(module) is nn.Linear or isinstance(module, Edited | Watched))
            and not hasattr(module.weight, "ds_id")
        )
        for module in modules
    )


def rounded_head(model: PreTrainedModel) -> PackedLinear | Int8Linear | None:
    """Returns the rounded output layer that a packed model has in addition to its own, if any."""
    return getattr(model, _ROUNDED_HEAD, None)


def packed(model: PreTrainedModel, precision: str = "fp32") -> PreTrainedModel:
    """Returns a model for search, which shares all but the linear layers with this one.

    Subclasses of `nn.Linear`, the output layer (a search looks up its rows one by one), and layers
    that are not on a CPU in float32 or bfloat16 are left unchanged.

    Args:
        model: Any model; it is not changed.
        precision: "fp32", or "bf16": linear layers multiply in bfloat16; everything between them,
            and the keys, values and output of the cross-attention, is unchanged. So is the output
            layer, which gets a rounded copy (`rounded_head`). If oneDNN cannot multiply, the whole
            model is in bfloat16 instead. "int8": the same layers multiply in 8-bit integers
            (`dsi.kernels.int8_linear`).

    Raises:
        InputError: The precision is int8, and oneDNN cannot multiply so here, or the model has no
            linear layers.
    """
    if precision == "int8":
        _refuse_without_int8(model)
    dtype = {"bf16": torch.bfloat16, "int8": torch.int8}.get(precision)
    head_weight = model.get_output_embeddings().weight
    if dtype == torch.bfloat16 and not has_onednn_kernel(head_weight, dtype):
        whole: Any = copy.deepcopy(model)
        return whole.to(dtype)
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    other: Any = copy.deepcopy(model, shared)
    head = other.get_output_embeddings()

    def can_pack(layer: Any) -> bool:
        return type(layer) is nn.Linear and layer is not head and has_onednn_kernel(layer.weight)

    for path, parent in list(other.named_modules()):
        own_name = path.rpartition(".")[2]
        names, exact = _TOGETHER.get(own_name, ()), _EXACT.get(own_name, ())
        layers: list[Any] = [getattr(parent, name, None) for name in names]
        if layers and all(can_pack(layer) and layer.bias is None for layer in layers):
            rounded = None if set(names) <= set(exact) else dtype
            for name, part in zip(names, _parts_of_one(layers, rounded), strict=True):
                setattr(parent, name, part)
        if dtype == torch.int8 and own_name == "EncDecAttention":
            parent.exact = [getattr(parent, name).weight.detach() for name in ("q", "o")]
        for name, layer in list(parent.named_children()):
            if can_pack(layer):
                setattr(parent, name, _packed_layer(layer, None if name in exact else dtype))
    if dtype is not None and type(head) is nn.Linear and not hasattr(model, "pawa"):
        setattr(other, _ROUNDED_HEAD, _packed_layer(head, dtype))
    return other


def _packed_layer(layer: nn.Linear, dtype: torch.dtype | None) -> PackedLinear | Int8Linear:
    """Packs a layer for products in a dtype; None for that of its weights."""
    if dtype != torch.int8:
        return PackedLinear(layer, dtype)
    return Int8Linear(layer)


def _refuse_without_int8(model: PreTrainedModel) -> None:
    """Raises InputError if a model would be searched in another precision than int8."""
    head = model.get_output_embeddings()
    if not has_int8_kernel(head.weight):
        raise InputError(
            "--precision int8 needs a CPU with VNNI instructions and a recent PyTorch with oneDNN",
            hint="Use --precision bf16 or fp32, or --device cpu",
        )
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear and layer is not head]
    if not layers:
        raise InputError(
            f"--precision int8: the layers of a {model.config.model_type} are not torch.nn.Linear "
            "and would stay in fp32",
            hint="Use --precision bf16 or fp32",
        )


def _parts_of_one(layers: list[Any], dtype: torch.dtype | None) -> list[PackedPart]:
    """Packs bias-free layers with the same input into a single one, and returns its parts."""
    sizes = [layer.out_features for layer in layers]
    whole = nn.Linear(layers[0].in_features, sum(sizes), bias=False, device="meta")
    weight = torch.cat([layer.weight.detach() for layer in layers])
    whole.weight = nn.Parameter(weight, requires_grad=False)
    packed_whole = _packed_layer(whole, dtype)
    ends = list(itertools.accumulate(sizes, initial=0))
    return [PackedPart(packed_whole, slice(*pair)) for pair in itertools.pairwise(ends)]
