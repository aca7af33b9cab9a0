"""Matrix products on a CPU with the faster of two libraries.

PyTorch hands float32 products on a CPU to MKL, which uses slower instructions on non-Intel
processors; oneDNN, which also ships with PyTorch, does not. (In bf16 PyTorch itself uses oneDNN.)
Both sum in float32, each in its own order.

The operation is the one that `torch.compile` emits for a frozen model. If it is missing, or weights
are not on a CPU, PyTorch's own product is used.
"""

from __future__ import annotations

import platform

import torch
from torch.nn import functional

_PROCESSORS = ("x86_64", "AMD64")


def has_onednn_kernel(weight: torch.Tensor, dtype: torch.dtype | None = None) -> bool:
    """Whether oneDNN can multiply by this weight: float32 or bfloat16, on an x86 processor.

    Args:
        weight: Any tensor.
        dtype: Dtype of the products; None for that of the weight. bfloat16 needs a processor with
            AVX-512 or AVX-NE-CONVERT.
    """
    return (
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and not hasattr(weight, "ds_id")  # DeepSpeed's ZeRO-3 keeps it elsewhere
        and platform.machine() in _PROCESSORS
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and ((dtype or weight.dtype) != torch.bfloat16 or _knows_bfloat16())
    )


def _knows_bfloat16() -> bool:
    """Whether this processor has the instructions that oneDNN needs for bfloat16."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def onednn_linear(
    states: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    activation: str = "none",
) -> torch.Tensor:
    """`torch.nn.functional.linear` with oneDNN, without a gradient.

    Args:
        states: [..., in].
        weight: [out, in], of the same dtype, or packed by oneDNN.
        bias: [out].
        activation: Activation fused into the operation: "none" or "relu".
    """
    return torch.ops.mkldnn._linear_pointwise(states, weight, bias, activation, [], "")


def linear(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """`torch.nn.functional.linear` without a gradient, with the faster of the two libraries."""
    same = states.dtype == weight.dtype == torch.float32
    if same and not torch.is_autocast_enabled("cpu") and has_onednn_kernel(weight):
        return onednn_linear(states, weight, bias)
    return functional.linear(states, weight, bias)
