"""One call that installs the fast paths of a model and reports what they replaced."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from torch import nn

from dsi.kernels.packed_linear import PACKED, PackedPart, packed

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Installation:
    """Installed fast paths; leaving the `with` block, or calling `remove`, uninstalls them.

    Attributes:
        model: The model to use: the given one, or for search a copy that shares its weights.
        replaced: Fast path (name of its module in `dsi.kernels`) -> names of the layers whose
            computation it replaced.
    """

    model: PreTrainedModel
    replaced: dict[str, list[str]]
    _installed: ExitStack = field(default_factory=ExitStack, repr=False)

    def remove(self) -> None:
        """Restores the layers' own computation; may be called more than once."""
        self._installed.close()

    def __enter__(self) -> Installation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()


def install(
    model: PreTrainedModel,
    purpose: Literal["training", "search"],
    *,
    precision: str = "fp32",
    length_buckets: int = 1,
    encoder_states: bool = True,
) -> Installation:
    """Installs every fast path that fits a model, and leaves the other layers unchanged.

    Args:
        model: Any model. Training patches its layers until the installation is removed; search gets
            a copy that shares all but the linear layers, and the model is not changed.
        purpose: "training" supports backward passes; "search" packs weights in oneDNN's layout.
        precision: "fp32" or "bf16"; for search also "int8".
        length_buckets: Maximum number of length buckets for attention, in training.
        encoder_states: Whether anything besides the decoder reads the encoder's states, in
            training.
    """
    if purpose == "search":
        other = packed(model, precision)
        return Installation(other, _replaced(other))
    # Imported here: search needs none of it, nor transformers behind it.
    from dsi.kernels.dropout import fast_dropout
    from dsi.kernels.feed_forward import fast_feed_forward
    from dsi.kernels.linear import fast_linear
    from dsi.kernels.norms import fast_norms
    from dsi.kernels.unpadded import supports_unpadded, without_padding

    with ExitStack() as stack:
        for cheap in (fast_dropout, fast_norms, fast_feed_forward):
            stack.enter_context(cheap(model))
        if supports_unpadded(model):
            stack.enter_context(without_padding(model, length_buckets, states=encoder_states))
        if precision == "fp32":  # autocast already multiplies with oneDNN
            stack.enter_context(fast_linear(model))
        return Installation(model, _replaced(model), stack.pop_all())


def _replaced(model: nn.Module) -> dict[str, list[str]]:
    """Returns which fast path each replaced layer of a model uses."""
    layers: dict[str, list[str]] = {}
    for name, layer in model.named_modules():
        if isinstance(model.get_submodule(name.rpartition(".")[0]), PackedPart):
            continue  # computes several layers at once
        own = vars(layer).get("forward")
        if isinstance(own, partial):
            path = own.func.__module__
        elif isinstance(layer, (*PACKED, PackedPart)):
            path = type(layer).__module__
        else:
            continue
        layers.setdefault(path.rpartition(".")[2], []).append(name)
    return layers
