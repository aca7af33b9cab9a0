"""One call that installs the fast paths of a model and says what they replaced."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from torch import nn

from dsi.kernels.packed_linear import PackedLinear, PackedPart, packed

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Installation:
    """Fast paths in place; leaving the `with` block, or `remove`, takes them out again.

    Attributes:
        model: The model to compute with: the one that was given, or for a search a copy that
            shares its weights.
        replaced: Fast path, by the name of its module in `dsi.kernels` -> the layers whose
            computation it replaced, by their names in the model.
    """

    model: PreTrainedModel
    replaced: dict[str, list[str]]
    _installed: ExitStack = field(default_factory=ExitStack, repr=False)

    def remove(self) -> None:
        """Gives the layers their own computation back; harmless when called again."""
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
    """Installs every fast path that fits a model, and leaves the other layers as they are.

    Args:
        model: Any model. Training patches its layers until the installation is removed; a search
            gets a copy that shares all but the linear layers, and the model stays as it is.
        purpose: "training" has backward passes; "search" has weights in oneDNN's order.
        precision: "fp32" or "bf16".
        length_buckets: Most length buckets that attention takes texts in, in training.
        encoder_states: Whether others than the decoder read the encoder's states, in training.
    """
    if purpose == "search":
        other = packed(model, precision)
        return Installation(other, _replaced(other))
    # Imported here: a search needs none of it, nor transformers behind it.
    from dsi.kernels.dropout import fast_dropout
    from dsi.kernels.feed_forward import fast_feed_forward
    from dsi.kernels.linear import fast_linear
    from dsi.kernels.norms import fast_norms
    from dsi.kernels.unpadded import can_do_without, without_padding

    with ExitStack() as stack:
        for cheap in (fast_dropout, fast_norms, fast_feed_forward):
            stack.enter_context(cheap(model))
        if can_do_without(model):
            stack.enter_context(without_padding(model, length_buckets, states=encoder_states))
        if precision == "fp32":  # autocast multiplies by oneDNN itself
            stack.enter_context(fast_linear(model))
        return Installation(model, _replaced(model), stack.pop_all())


def _replaced(model: nn.Module) -> dict[str, list[str]]:
    """Returns which layers of a model compute by which fast path."""
    found: dict[str, list[str]] = {}
    for name, layer in model.named_modules():
        if isinstance(model.get_submodule(name.rpartition(".")[0]), PackedPart):
            continue  # what several layers are computed by
        own = vars(layer).get("forward")
        if isinstance(own, partial):
            path = own.func.__module__
        elif isinstance(layer, (PackedLinear, PackedPart)):
            path = type(layer).__module__
        else:
            continue
        found.setdefault(path.rpartition(".")[2], []).append(name)
    return found
