"""Linear layers for searching on a CPU: weights in the order in which oneDNN reads them.

A search multiplies a few rows by the same weights over and over. In each product a library would
put the weights in its order anew; here they are put there once. Where oneDNN cannot multiply
(`dsi.products`), layers stay as they are.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from dsi.products import can_multiply, product


class PackedLinear(nn.Module):
    """A linear layer that can be applied, and neither trained nor saved.

    Args:
        layer: The layer whose weights it has, on a CPU.
        dtype: What the products are computed in: float32 or bfloat16. They are summed in float32.
    """

    def __init__(self, layer: nn.Linear, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.in_features = layer.in_features
        self.out_features = layer.out_features
        weight = layer.weight.detach().to(dtype or layer.weight.dtype)
        # An attribute and no parameter: models ask for the dtype of `weight`.
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        self.bias = None if layer.bias is None else layer.bias.detach().to(weight.dtype)

    def forward(self, states: torch.Tensor, activation: str = "none") -> torch.Tensor:
        """Returns the products in the dtype of the states; floating [..., in] in, [..., out] out.

        Args:
            states: What is multiplied.
            activation: What is made of the products: "none" or "relu".
        """
        found = product(states.to(self.weight.dtype), self.weight, self.bias, activation)
        return found.to(states.dtype)


def relu_of(layer: nn.Module, states: torch.Tensor) -> torch.Tensor:
    """Returns the positive part of what a linear layer makes of states, 0 elsewhere."""
    if type(layer) is PackedLinear:
        return layer(states, "relu")
    return layer(states).relu_()


def plain(*modules: Any) -> bool:
    """Whether all of these are linear layers with nothing around them or their weights.

    Weights that DeepSpeed's ZeRO-3 has spread over processes come together in `forward` only.
    """
    return all(
        type(module) is PackedLinear
        or (type(module) is nn.Linear and not hasattr(module.weight, "ds_id"))
        for module in modules
    )


def packed(model: PreTrainedModel, precision: str = "fp32") -> PreTrainedModel:
    """Returns a model for searching, which shares all but its linear layers with this one.

    Layers that are more than `nn.Linear`, the output layer, whose rows a search looks up one by
    one, and layers that are not on a CPU in float32 or bfloat16 stay as they are.

    Args:
        model: Any model; it is not changed.
        precision: "fp32", or "bf16": linear layers multiply in bfloat16, and whatever lies between
            them, with the output layer, stays as it is. Where oneDNN cannot multiply the whole
            model is in bfloat16 instead.
    """
    if precision == "bf16" and not can_multiply(model.get_output_embeddings().weight):
        whole: Any = copy.deepcopy(model)
        return whole.to(torch.bfloat16)
    dtype = torch.bfloat16 if precision == "bf16" else None
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    other: Any = copy.deepcopy(model, shared)
    head = other.get_output_embeddings()
    for parent in list(other.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and layer is not head and can_multiply(layer.weight):
                setattr(parent, name, PackedLinear(layer, dtype))
    return other
