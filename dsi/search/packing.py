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
        layer: The layer whose weights it has, in float32 or bfloat16, on a CPU.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features = layer.in_features
        self.out_features = layer.out_features
        weight = layer.weight.detach()
        # An attribute and no parameter: models ask for the dtype of `weight`.
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        self.bias = None if layer.bias is None else layer.bias.detach()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Returns the products; floating [..., in] in, [..., out] out.

        Raises:
            RuntimeError: `states` have another dtype than the weights.
        """
        return product(states, self.weight, self.bias)


def packed(model: PreTrainedModel) -> PreTrainedModel:
    """Returns a model for searching, which shares all but its linear layers with this one.

    Layers that are more than `nn.Linear`, the output layer, whose rows a search looks up one by
    one, and layers that are not on a CPU in float32 or bfloat16 stay as they are.

    Args:
        model: Any model; it is not changed.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    other: Any = copy.deepcopy(model, shared)
    head = other.get_output_embeddings()
    for parent in list(other.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and layer is not head and can_multiply(layer.weight):
                setattr(parent, name, PackedLinear(layer))
    return other
