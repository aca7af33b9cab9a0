"""Matrix products on a CPU by the faster of two libraries.

PyTorch hands float32 products on a CPU to MKL, which keeps to its slower instructions on
processors that are not Intel's; oneDNN, which comes with PyTorch as well, does not. (In bf16
PyTorch asks oneDNN by itself.) Both sum in float32, each in its own order.

The operation is the one that `torch.compile` writes for a frozen model. Where it is missing, or
weights are not on a CPU, everything stays with PyTorch.
"""

from __future__ import annotations

import platform

import torch
from torch.nn import functional

_PROCESSORS = ("x86_64", "AMD64")


def has_onednn_kernel(weight: torch.Tensor, dtype: torch.dtype | None = None) -> bool:
    """Whether oneDNN can multiply by such a weight: float32 or bfloat16, on an x86 processor.

    Args:
        weight: Any tensor.
        dtype: What the products are computed in; None for what the weight is in. In bfloat16 it
            needs a processor with AVX-512 or AVX-NE-CONVERT.
    """
    return (
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and not hasattr(weight, "ds_id")  # DeepSpeed's ZeRO-3 has it elsewhere
        and platform.machine() in _PROCESSORS
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and ((dtype or weight.dtype) != torch.bfloat16 or _knows_bfloat16())
    )


def _knows_bfloat16() -> bool:
    """Whether this processor has what oneDNN multiplies by in bfloat16."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def onednn_linear(
    states: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    activation: str = "none",
) -> torch.Tensor:
    """`torch.nn.functional.linear` by oneDNN, without a gradient.

    Args:
        states: [..., in].
        weight: [out, in], of the same dtype, or as oneDNN packs it.
        bias: [out].
        activation: What is made of the products in the same operation: "none" or "relu".
    """
    return torch.ops.mkldnn._linear_pointwise(states, weight, bias, activation, [], "")


def linear(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """`torch.nn.functional.linear` without a gradient, by the faster of the two libraries."""
    same = states.dtype == weight.dtype == torch.float32
    if same and not torch.is_autocast_enabled("cpu") and has_onednn_kernel(weight):
        return onednn_linear(states, weight, bias)
    return functional.linear(states, weight, bias)
