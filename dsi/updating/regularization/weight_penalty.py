"""Penalties on the distance of weights from their values before the update."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from dsi.objectives.base import Objective


class WeightPenalty(Objective):
    """A penalty on weight changes, scaled by measured quantities such as the Fisher information.

    Args:
        weight: Weight of the term.
        measured: Measured quantity by name of the weight.
        anchor: Values of these weights before the update.
    """

    def __init__(
        self,
        weight: float,
        measured: Mapping[str, torch.Tensor],
        anchor: Mapping[str, torch.Tensor],
    ) -> None:
        super().__init__(weight)
        self._measured = dict(measured)
        self._anchor = dict(anchor)

    def prepare(self, device: torch.device) -> None:
        """Moves the measured quantities and the anchor to the device."""
        for held in (self._measured, self._anchor):
            held.update({name: value.to(device) for name, value in held.items()})

    def moves(self, model: torch.nn.Module) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yields the measured quantity of each weight, and the weight minus its anchor."""
        weights = dict(model.named_parameters())
        for name, measured in self._measured.items():
            yield measured, weights[name] - self._anchor[name]


def reference_weights(
    weights: Mapping[str, torch.Tensor], names: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Returns copies of the named weights."""
    return {name: weights[name].detach().clone() for name in names}
