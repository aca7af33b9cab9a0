"""The strategy interface, and rules for combining strategies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from data_prep.checks import with_article
from data_prep.errors import InputError
from data_prep.registry import Registry
from dsi.updating.plan import Plan, Update

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from dsi.text_encoders.text_encoder import TextEncoder


class Strategy(ABC):
    """An update strategy, or a component that combines with others.

    Attributes:
        name: Name on the command line.
        role: What it controls: "examples" (training data; at least one is needed), "loss",
            "schedule", "structure", "optimizer", or "all" (cannot be combined).
        excludes: Strategies that it cannot be combined with, in addition to those of its own role
            if that is "structure" or "all".
        reads: Groups of `UpdateOptions` that it reads.
        ignores: General update options that have no effect with it.
        plain_head: Whether it supports the plain output layer only.
        fourier: Whether it supports an output layer that reads random Fourier features.
    """

    name: ClassVar[str]
    role: ClassVar[str]
    excludes: ClassVar[frozenset[str]] = frozenset()
    reads: ClassVar[frozenset[str]] = frozenset()
    ignores: ClassVar[frozenset[str]] = frozenset()
    plain_head: ClassVar[bool] = False
    fourier: ClassVar[bool] = False

    @abstractmethod
    def shape(self, plan: Plan) -> None:
        """Modifies the plan."""


@dataclass(frozen=True)
class Outcome:
    """The result of a strategy.

    Attributes:
        model: The model of the new version.
        text: The text encoder of the new version.
        reached: Facts for the manifest: at least `steps` and `batch`.
        timing: Timings, which are displayed but not stored.
        strategy_state: Strategy -> tensors stored with the new version.
        afresh: Whether the model was trained from scratch, which invalidates the stored states of
            strategies.
    """

    model: PreTrainedModel
    text: TextEncoder
    reached: Mapping[str, Any]
    timing: Mapping[str, Any] = field(default_factory=dict)
    strategy_state: Mapping[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)
    afresh: bool = False


class Standalone(Strategy):
    """A strategy that runs without the training loop."""

    role = "all"

    def shape(self, plan: Plan) -> None:
        """Never called, because there is no plan."""
        raise AssertionError(f"{self.name} has no plan")

    @abstractmethod
    def run(self, update: Update, work: Path) -> Outcome:
        """Creates the model of the new version.

        Args:
            update: The update.
            work: Working folder, which survives an interruption.
        """


ROLES = ("examples", "loss", "schedule", "structure", "optimizer", "all")


def _fault(name: str, entry: object) -> str | None:
    """Tells what is wrong with a strategy of another package."""
    if not isinstance(entry, Strategy):
        return f"it is {with_article(entry)}, not an instance of Strategy"
    if getattr(entry, "name", None) != name:
        return f"its name is {getattr(entry, 'name', None)!r}"
    if getattr(entry, "role", None) not in ROLES:
        return f"its role is {getattr(entry, 'role', None)!r}, not one of {', '.join(ROLES)}"
    if entry.role == "all" and not isinstance(entry, Standalone):
        return "its role is 'all', but it is not an instance of Standalone"
    for what in ("excludes", "reads", "ignores"):
        if not isinstance(getattr(entry, what), frozenset):
            return f"its attribute {what} is not a frozenset"
    return None


STRATEGIES: Registry[Strategy] = Registry("strategy", group="dsi.update_strategies", fault=_fault)


REMOVED = {"view-batch": "it lost accuracy in every measurement"}
"""Strategies of earlier versions -> why there are none any more."""


def parse_strategies(text: str) -> list[Strategy]:
    """Parses strategy names joined with plus signs.

    Raises:
        InputError: A strategy is unknown, was removed or is named twice, two cannot be combined, or
            none defines the training data.
    """
    names = [name.strip() for name in text.split("+")]
    for name in names:
        if name in REMOVED:
            raise InputError(
                f"the strategy {name!r} was removed: {REMOVED[name]}",
                hint=f"Omit it from {text!r}",
            )
    found = [STRATEGIES[name] for name in names]
    for place, strategy in enumerate(found):
        for other in found[:place]:
            if other is strategy:
                raise InputError(f"--strategy names {strategy.name!r} twice")
            alone = "all" in (strategy.role, other.role)
            both = strategy.role == other.role == "structure"
            named = other.name in strategy.excludes or strategy.name in other.excludes
            if alone or both or named:
                raise InputError(
                    f"--strategy {other.name} and {strategy.name} cannot be combined",
                    hint=f"Omit one of them from {text!r}",
                )
    if not any(strategy.role in ("examples", "all") for strategy in found):
        choices = [name for name, each in STRATEGIES.usable().items() if each.role == "examples"]
        raise InputError(
            f"--strategy {text!r} does not define the training data",
            hint=f"Combine it with one of: {', '.join(choices)}",
        )
    return found


def refuse_other_heads(strategies: Sequence[Strategy], head: str) -> None:
    """Refuses strategies that support only the plain output layer if the index has another.

    Args:
        strategies: Strategies of the update.
        head: `--model.head` of the index.

    Raises:
        InputError: A strategy does not support the output layer.
    """
    for strategy in strategies:
        if strategy.plain_head and head != "linear":
            raise InputError(
                f"--strategy {strategy.name} supports only the plain output layer, and this index "
                f"was trained with --model.head {head}",
                hint="Use another --strategy, such as generative",
            )


def refuse_other_states(strategies: Sequence[Strategy], config: Mapping[str, Any]) -> None:
    """Refuses strategies that do not know how the output layer of the index reads states.

    Args:
        strategies: Strategies of the update.
        config: The config.json of the index.

    Raises:
        InputError: The index has Fourier features, and a strategy expects the states themselves.
    """
    from dsi.backbones.output_states import STATE_MAP, FourierFeatures

    if config.get(STATE_MAP, {}).get("kind") != FourierFeatures.kind:
        return
    for strategy in strategies:
        if not strategy.fourier:
            raise InputError(
                f"--strategy {strategy.name} and an output layer that reads random Fourier "
                "features (--kernel.features fourier) cannot be combined",
                hint="Use --strategy kernel, or retrain",
            )
