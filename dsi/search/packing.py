"""Linear layers for searching on a CPU: weights in the order in which oneDNN reads them.

PyTorch multiplies float32 matrices on a CPU by way of MKL, which keeps to its slower instructions
on processors that are not Intel's, and puts the weights in order anew in each product. A search
multiplies a few rows by the same weights over and over: here they are put in order once, and
oneDNN multiplies. Sums are formed in float32 as before, in another order.

The operations are those that `torch.compile` writes for a frozen model. Where they are missing, or
weights are not on a CPU, layers stay as they are.
"""

from __future__ import annotations

import copy
import platform
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

_PROCESSORS = ("x86_64", "AMD64")


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
        return _product(states, self.weight, self.bias)


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
            if type(layer) is nn.Linear and layer is not head and _can_multiply(layer.weight):
                setattr(parent, name, PackedLinear(layer))
    return other


def linear(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """`torch.nn.functional.linear` without a gradient, by the faster of the two libraries."""
    same = states.dtype == weight.dtype == torch.float32
    if same and not torch.is_autocast_enabled("cpu") and _can_multiply(weight):
        return _product(states, weight, bias)
    return functional.linear(states, weight, bias)


def _product(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")


def _can_multiply(weight: torch.Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and not hasattr(weight, "ds_id")  # DeepSpeed's ZeRO-3 has it elsewhere
        and platform.machine() in _PROCESSORS
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
