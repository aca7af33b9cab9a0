"""Linear layers for search on a CPU in 8-bit integers.

Weights are rounded once, with a scale for each output; states are rounded as they come, with a
scale for each row (dynamic quantization: Dettmers et al., LLM.int8(), NeurIPS 2022, section 3,
without its outliers). oneDNN multiplies and sums in int32; scales and everything else are float32.
"""

from __future__ import annotations

import torch
from torch import nn

from dsi.kernels.matmul import has_onednn_kernel

_MOST = 127
_TINY = 1e-12


def has_int8_kernel(weight: torch.Tensor) -> bool:
    """Whether oneDNN can multiply by this weight in int8: in float32, with VNNI instructions."""
    return (
        has_onednn_kernel(weight)
        and weight.dtype == torch.float32
        and hasattr(torch.ops.onednn, "qlinear_pointwise")
        and bool(getattr(torch.cpu, "_is_vnni_supported", bool)())
    )


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
        found, scales = self.unscaled(states, relu=activation == "relu" and self.bias is None)
        found.mul_(scales)
        if self.bias is not None:
            found += self.bias
            if activation == "relu":
                found.relu_()
        return found.view(*states.shape[:-1], self.out_features)

    def unscaled(
        self, states: torch.Tensor, *, relu: bool = False, positive: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns products that lack the scales of their rows, without the bias.

        Args:
            states: The input; floating [..., in].
            relu: Whether the products go through a ReLU.
            positive: Whether no state is negative.

        Returns:
            float32 [rows, out], and what to multiply each row with; float32 [rows, 1].
        """
        rows = states.float().reshape(-1, self.in_features)
        # Without the absolute values, whose memory costs more than the second pass.
        scales = rows.amax(dim=1, keepdim=True)
        if not positive:
            scales = torch.maximum(scales, rows.amin(dim=1, keepdim=True).neg_())
        scales.clamp_min_(_TINY).div_(_MOST)
        rounded = rows.div(scales).round_().to(torch.int8)
        found = torch.ops.onednn.qlinear_pointwise(
            rounded, 1.0, 0, self.packed, self.scales, self.zeros, None, 1.0, 0, torch.float32,
            "relu" if relu else "none", [], "",
        )  # fmt: skip
        return found, scales


def feed_forward(inner: Int8Linear, outer: Int8Linear, states: torch.Tensor) -> torch.Tensor:
    """Returns two bias-free layers with a ReLU between them; float32 [..., out].

    Rounding is the same for a row and for a multiple of it: the scales of the inner products are
    applied to the result, which is narrower.

    Args:
        inner: The first layer.
        outer: The second layer.
        states: floating [..., in].
    """
    hidden, scales = inner.unscaled(states, relu=True)
    found, more = outer.unscaled(hidden, positive=True)
    return found.mul_(more.mul_(scales)).view(*states.shape[:-1], outer.out_features)
