"""Penalties on how far weights have moved from where an update found them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from dsi.objectives.base import Objective


class WeightPenalty(Objective):
    """A term of the moves of weights, each beside what has been measured of it.

    Args:
        weight: What the term is multiplied with.
        measured: What says how a move counts, by name of the weight.
        anchor: Where these weights were.
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
        """Moves both to the device."""
        for held in (self._measured, self._anchor):
            held.update({name: value.to(device) for name, value in held.items()})

    def moves(self, model: torch.nn.Module) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yields what has been measured of a weight, and the weight less its anchor."""
        weights = dict(model.named_parameters())
        for name, measured in self._measured.items():
            yield measured, weights[name] - self._anchor[name]


def reference_weights(
    weights: Mapping[str, torch.Tensor], names: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Returns where the weights of these names are now."""
    return {name: weights[name].detach().clone() for name in names}
