"""Maps applied to a decoder's states between its last norm and its output layer.

Two update strategies put a map there, and at most one of them at a time:

- `FourierFeatures` (strategy `kernel`): the output layer reads random Fourier features of a state.
- `ProductKeyMemory` (strategy `pamt`): values of a memory are added to a state.

The map is part of the last norm, which the decoders of a search and the training loop call, so
that every way of decoding reads mapped states. Its tensors are buffers, stored with the weights
and never trained. The model keeps its transformers class; `STATE_MAP` in its configuration says
which map it has.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from data_prep.errors import InputError
from dsi.backbones.position_edits import place_of
from dsi.index_folder.version_files import COPY

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STATE_MAP = "dsi_state_map"
"""Key in config.json: kind and sizes of the map; absent without one."""


class StateMap(nn.Module, ABC):
    """A map of states.

    Attributes:
        kind: Its name in the configuration.
        strategy: The strategy that adds it.
    """

    kind: ClassVar[str]
    strategy: ClassVar[str]

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Returns kind and sizes, for the configuration."""


class FourierFeatures(StateMap):
    """Random Fourier features of the Gaussian kernel (Rahimi and Recht, NeurIPS 2007).

    z(x) = sqrt(2 / features) cos(W x + b) has E[z(x) . z(y)] = exp(-|x - y|^2 / (2 bandwidth^2)),
    with rows of W from N(0, 1 / bandwidth^2) and b uniform in [0, 2 pi].

    Args:
        width: Width of the states.
        features: Number of features.
    """

    kind = "fourier"
    strategy = "kernel"
    projection: torch.Tensor
    phase: torch.Tensor

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.register_buffer("projection", torch.zeros(features, width))
        self.register_buffer("phase", torch.zeros(features))

    @classmethod
    def drawn(cls, width: int, features: int, bandwidth: float, seed: int) -> FourierFeatures:
        """Returns features with random weights."""
        generator = torch.Generator().manual_seed(seed)
        fourier = cls(width, features)
        fourier.projection.normal_(generator=generator).div_(bandwidth)
        fourier.phase.uniform_(0, 2 * torch.pi, generator=generator)
        return fourier

    def settings(self) -> dict[str, Any]:
        """See `StateMap.settings`."""
        return {"kind": self.kind, "features": len(self.phase)}

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Returns the features; [..., width] to [..., features]."""
        phase = self.phase.to(states.dtype)
        angles = functional.linear(states, self.projection.to(states.dtype), phase)
        return angles.cos() * (2 / len(self.phase)) ** 0.5


class ProductKeyMemory(StateMap):
    """A memory of keys * keys rows, whose values are added to states (PAMT, arXiv 2604.23388).

    Product keys (Lample et al., NeurIPS 2019, section 3.1): row (i, j) has key i of one half of the
    state, and key j of the other, so that the nearest rows are found among the nearest keys of both
    halves. A state reads the `top` nearest rows, by a softmax over minus the squared distances,
    divided by `spread`.

    Args:
        width: Width of the states.
        keys: Keys of each half.
        top: Rows that a state reads.

    Attributes:
        first: Keys of the first half; float32 [keys, width // 2].
        second: Keys of the second half; float32 [keys, width - width // 2].
        spread: Mean squared distance of states from their keys; float32 [1].
        values: Zero in a new memory; float32 [keys * keys, width].
    """

    kind = "memory"
    strategy = "pamt"
    first: torch.Tensor
    second: torch.Tensor
    spread: torch.Tensor
    values: torch.Tensor

    def __init__(self, width: int, keys: int, top: int) -> None:
        super().__init__()
        self.top = top
        self.register_buffer("first", torch.zeros(keys, width // 2))
        self.register_buffer("second", torch.zeros(keys, width - width // 2))
        self.register_buffer("spread", torch.ones(1))
        self.register_buffer("values", torch.zeros(keys * keys, width))

    def settings(self) -> dict[str, Any]:
        """See `StateMap.settings`."""
        return {"kind": self.kind, "keys": len(self.first), "top": self.top}

    def addresses(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the rows that states read, int64 [..., top], and their weights, [..., top]."""
        keys = len(self.first)
        halves = states.float().split((self.first.shape[1], self.second.shape[1]), dim=-1)
        near = [
            (-_squared_distances(half, half_keys)).topk(min(self.top, keys))
            for half, half_keys in zip(halves, (self.first, self.second), strict=True)
        ]
        (scores, one), (others, other) = near
        both = (scores.unsqueeze(-1) + others.unsqueeze(-2)).flatten(-2)
        rows = (one.unsqueeze(-1) * keys + other.unsqueeze(-2)).flatten(-2)
        best, places = both.topk(min(self.top, both.shape[-1]))
        return rows.gather(-1, places), (best / self.spread).softmax(-1)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Returns states plus what they read; [..., width] in and out."""
        rows, weights = self.addresses(states)
        read = (weights.unsqueeze(-1) * self.values[rows]).sum(dim=-2)
        return states + read.to(states.dtype)


def _squared_distances(states: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Returns squared distances, without what all keys have in common beyond rounding."""
    products = functional.linear(states, keys)
    squared_norms = states.square().sum(dim=-1, keepdim=True)
    return squared_norms - 2 * products + keys.square().sum(dim=-1)


_KINDS: dict[str, Any] = {each.kind: each for each in (FourierFeatures, ProductKeyMemory)}
_SIZES = {FourierFeatures.kind: ("features",), ProductKeyMemory.kind: ("keys", "top")}
"""Kind of a map -> its sizes."""
_MOST_READ = 1024
"""Most rows of a memory that a state may read: each takes memory for every state."""


class MappedNorm(nn.Module):
    """A norm whose output goes through a map."""

    state_map: StateMap

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Returns mapped states; [..., width] in."""
        mapped: torch.Tensor = self.state_map(self.unmapped(states))
        return mapped

    def unmapped(self, states: torch.Tensor) -> torch.Tensor:
        """Returns what the norm alone computes."""
        base: Any = super()
        logits: torch.Tensor = base.forward(states)
        return logits


@functools.cache
def _mapped_class(kind: type[nn.Module]) -> type[nn.Module]:
    return type(f"Mapped{kind.__name__}", (MappedNorm, kind), {})


def map_of(model: nn.Module) -> StateMap | None:
    """Returns the map of a model; None without one."""
    return next((part.state_map for part in model.modules() if isinstance(part, MappedNorm)), None)


def mapped(norm: nn.Module, states: torch.Tensor) -> torch.Tensor:
    """Applies the map of a norm, if it has one, to what the norm alone has computed."""
    return norm.state_map(states) if isinstance(norm, MappedNorm) else states


def add_map(model: PreTrainedModel, new: StateMap) -> None:
    """Puts a map behind the last norm of a decoder, in place of one of the same kind.

    Fourier features need an output layer of their width: a new one has zero rows.

    Raises:
        InputError: The decoder is unknown, or has a map of another kind.
    """
    norm: Any = place_of(model, new.strategy).norm
    check_free(model, type(new))
    if not isinstance(norm, MappedNorm):
        kind: Any = type(norm)
        norm.__class__ = _mapped_class(kind)
    norm.state_map = new.to(norm.weight.device)
    setattr(model.config, STATE_MAP, new.settings())
    if isinstance(new, FourierFeatures):
        _set_width(model, len(new.phase))


def check_free(model: PreTrainedModel, new: type[StateMap]) -> None:
    """Refuses a model that cannot get a map.

    Raises:
        InputError: It has one of another kind, or expects states of another width.
    """
    before = map_of(model)
    if before is not None and before.kind != new.kind:
        raise InputError(
            f"the output layer of this index reads states of --strategy {before.strategy}, and "
            f"--strategy {new.strategy} would replace them",
            hint=f"Use --strategy {before.strategy} again, or retrain",
        )
    if new is FourierFeatures and model.config.model_type == "gpt2":
        raise InputError(
            "--kernel.features fourier changes the input width of the output layer, which GPT-2 in "
            "transformers does not allow",
            hint="Use --kernel.features linear",
        )


def drop_map(model: PreTrainedModel) -> None:
    """Removes the map of a model, in place; behind Fourier features, output rows become zero."""
    for part in model.modules():
        if isinstance(part, MappedNorm):
            before = part.state_map
            del part.state_map
            part.__class__ = type(part).__mro__[2]
            delattr(model.config, STATE_MAP)
            if isinstance(before, FourierFeatures):
                _set_width(model, before.projection.shape[1])
            return


def _set_width(model: Any, width: int) -> None:
    """Gives a model an output layer of another width, with zero rows."""
    old = model.get_output_embeddings()
    if old.in_features != width:
        new = nn.Linear(1, 1, bias=False)
        new.in_features, new.out_features = width, old.out_features
        new.weight = nn.Parameter(old.weight.detach().new_zeros(old.out_features, width))
        model.set_output_embeddings(new)


def with_stored_map(model: PreTrainedModel, stored: Mapping[str, Any]) -> PreTrainedModel:
    """Gives a network room for the map that is stored with its weights, if there is one."""
    settings = stored.get(STATE_MAP)
    if settings is not None:
        width = model.get_output_embeddings().in_features
        sizes = [settings[name] for name in _SIZES[settings["kind"]]]
        add_map(model, _KINDS[settings["kind"]](width, *sizes))
    return model


def check_map(settings: Any, file: Path) -> None:
    """Refuses invalid settings of a map.

    Raises:
        InputError: They are not.
    """
    kind = settings.get("kind") if isinstance(settings, dict) else None
    names = _SIZES.get(kind) if isinstance(kind, str) else None
    sizes = [settings.get(name) for name in names] if names else [None]
    is_valid = all(type(size) is int and size > 0 for size in sizes)
    if not is_valid or settings.get("top", 1) > _MOST_READ:
        raise InputError(f"{STATE_MAP} is {settings!r:.80}", where=file, hint=COPY)
