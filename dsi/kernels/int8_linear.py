"""Linear layers for search on a CPU in 8-bit integers.

Weights are rounded once, with a scale for each output; states are rounded as they come, with a
scale for each row (dynamic quantization: Dettmers et al., LLM.int8(), NeurIPS 2022, section 3,
without its outliers). oneDNN multiplies and sums in int32; scales and everything else are float32.

The functions of several small operations run in TorchScript (`dsi.kernels.scripting`), which
concatenates lists in its own way.
"""

from __future__ import annotations

import functools

import torch
from torch import nn

from dsi.kernels.matmul import has_onednn_kernel
from dsi.kernels.scripting import scripted

_MOST = 127
_TINY = 1e-12


def has_int8_kernel(weight: torch.Tensor) -> bool:
    """Whether oneDNN can multiply by this weight in int8: in float32, with VNNI instructions."""
    return (
        has_onednn_kernel(weight)
        and weight.dtype == torch.float32
        and hasattr(torch.ops.onednn, "qlinear_pointwise")
        and bool(getattr(torch.cpu, "_is_vnni_supported", bool)())
        and _multiplies_signed_states()
    )


@functools.cache
def _multiplies_signed_states() -> bool:
    """Whether this PyTorch takes states in int8: older ones, such as 2.6, take uint8 only."""
    one = torch.ones(1, 1, dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(one, None)
    try:
        int8_product(one, packed, torch.ones(1), torch.zeros(1, dtype=torch.int32), False)
    except RuntimeError:
        return False
    return True


class Int8Linear(nn.Module):
    """A linear layer in 8-bit integers, for inference only.

    Args:
        layer: The layer to take the weights from; `has_int8_kernel` holds for them.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features = layer.in_features
        self.out_features = layer.out_features
        weight = layer.weight.detach()
        self.scales = weight.abs().amax(dim=1).clamp_min(_TINY) / _MOST
        rounded = (weight / self.scales.unsqueeze(1)).round().to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(rounded, None)
        self.zeros = torch.zeros(self.out_features, dtype=torch.int32)
        # Models read its dtype, which is that of the states.
        self.weight = weight.new_empty(0)
        self.bias = None if layer.bias is None else layer.bias.detach()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Returns the products, [..., out], in the dtype of the states, floating [..., in]."""
        return self.linear(states).to(states.dtype)

    def linear(self, states: torch.Tensor, activation: str = "none") -> torch.Tensor:
        """Returns the products in float32.

        Args:
            states: The input; floating [..., in].
            activation: Activation of the products: "none" or "relu".
        """
        relu = activation == "relu"
        found: torch.Tensor = scripted(_linear)(
            states.float(), self.packed, self.scales, self.zeros, relu and self.bias is None
        )
        if self.bias is not None:
            found += self.bias
            if relu:
                found.relu_()
        return found


def feed_forward(inner: Int8Linear, outer: Int8Linear, states: torch.Tensor) -> torch.Tensor:
    """Returns two bias-free layers with a ReLU between them; float32 [..., out].

    Rounding is the same for a row and for a multiple of it: the scales of the inner products are
    applied to the result, which is narrower.

    Args:
        inner: The first layer.
        outer: The second layer.
        states: floating [..., in].
    """
    found: torch.Tensor = scripted(_feed_forward)(
        states.float(), inner.packed, inner.scales, inner.zeros, outer.packed, outer.scales,
        outer.zeros,
    )  # fmt: skip
    return found


def _linear(
    states: torch.Tensor,
    packed: torch.Tensor,
    scales: torch.Tensor,
    zeros: torch.Tensor,
    relu: bool,
) -> torch.Tensor:
    """Returns the products of states [..., in] with one layer; float32 [..., out]."""
    rounded, sizes = _rounded(states)
    product = int8_product(rounded, packed, scales, zeros, relu)
    return product.mul_(sizes).view(list(states.shape[:-1]) + [-1])  # noqa: RUF005


def _feed_forward(
    states: torch.Tensor,
    inner: torch.Tensor,
    inner_scales: torch.Tensor,
    inner_zeros: torch.Tensor,
    outer: torch.Tensor,
    outer_scales: torch.Tensor,
    outer_zeros: torch.Tensor,
) -> torch.Tensor:
    """Returns the products of states [..., in] with two layers; float32 [..., out]."""
    rounded, sizes = _rounded(states)
    hidden = int8_product(rounded, inner, inner_scales, inner_zeros, True)
    more = hidden.amax(1, True).clamp_min_(1e-12).div_(127.0)  # none is negative
    rounded = hidden.div_(more).round_().to(torch.int8)
    product = int8_product(rounded, outer, outer_scales, outer_zeros, False)
    return product.mul_(more.mul_(sizes)).view(list(states.shape[:-1]) + [-1])  # noqa: RUF005


def _rounded(states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns states as rows, int8 [rows, in], and what to multiply each row with."""
    rows = states.reshape(-1, states.shape[-1])
    # Without the absolute values, whose memory costs more than the second pass.
    sizes = torch.maximum(rows.amax(1, True), rows.amin(1, True).neg_())
    sizes = sizes.clamp_min_(1e-12).div_(127.0)
    return rows.div(sizes).round_().to(torch.int8), sizes


def int8_product(
    rounded: torch.Tensor,
    packed: torch.Tensor,
    scales: torch.Tensor,
    zeros: torch.Tensor,
    relu: bool,
) -> torch.Tensor:
    """Returns products that lack the scales of their rows; float32 [rows, out]."""
    found: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
        rounded, 1.0, 0, packed, scales, zeros, None, 1.0, 0, torch.float32,
        "relu" if relu else "none", [], "",
    )  # fmt: skip
    return found
