"""Parses the strategies of an update, and refuses options that they do not use."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any

from data_prep.checks import refuse_unread
from data_prep.errors import InputError
from dsi.indexing.assembly import optimizer_of
from dsi.indexing.options import TrainingOptions
from dsi.updating.options import UpdateOptions
from dsi.updating.strategies import STRATEGIES, Strategy, parse_strategies

AUTO = "auto"
"""The default strategy for a trained network; otherwise append."""
TRAINING = "generative+ewc"


def resolved(options: UpdateOptions, training: TrainingOptions) -> UpdateOptions:
    """Returns options with `auto` replaced by the name of a strategy.

    Args:
        options: Options of the update.
        training: Options of the first training of the index.

    Raises:
        InputError: An option has no effect with the selected strategy.
    """
    if options.strategy != AUTO:
        return options
    rows = optimizer_of(training, training.docids).rows
    frozen = rows == "frozen" or not training.loop.steps
    strategy = "append" if frozen and training.lexical.enabled else TRAINING
    chosen = dataclasses.replace(options, strategy=strategy)
    refuse_unused(chosen)
    return chosen


def refuse_unused(options: UpdateOptions) -> None:
    """Raises InputError for unknown strategies, and for options that the named ones do not use."""
    # `auto` depends on the index: until it is resolved, options of either strategy are accepted.
    auto = options.strategy == AUTO
    strategies = parse_strategies(TRAINING if auto else options.strategy)
    read = {group for strategy in strategies for group in strategy.reads}
    for strategy in [] if auto else strategies:
        why = f"with --strategy {strategy.name}"
        refuse_unread(options, strategy.ignores, why, hint="Omit it, or use another strategy")
    known = STRATEGIES.usable()
    for group in sorted({group for each in known.values() for group in each.reads} - read):
        readers = [name for name, each in known.items() if group in each.reads]
        readers.sort(key=lambda name: len(known[name].reads))
        refuse_unread(
            options,
            [group],
            f"without the strategy {' or '.join(readers)}",
            hint=f"Write --strategy {_with(strategies, readers[0])}, or omit them",
        )


def _with(strategies: Sequence[Strategy], name: str) -> str:
    """Returns the strategy string that includes `name`: the name alone if it cannot be combined."""
    if "all" in (STRATEGIES[name].role, *(strategy.role for strategy in strategies)):
        return name if STRATEGIES[name].role == "all" else f"generative+{name}"
    return "+".join([*(strategy.name for strategy in strategies), name])


def with_changes(options: UpdateOptions, text: str) -> UpdateOptions:
    """Parses a strategy followed by option values, as in `generative@ratio=32`.

    Raises:
        InputError: The option does not exist, or the value has the wrong type.
    """
    strategy, *changes = text.split("@")
    ignored = {name for each in parse_strategies(strategy) for name in each.ignores}
    values: dict[str, Any] = {"strategy": strategy}
    plain = {
        entry.name
        for entry in dataclasses.fields(options)
        if not dataclasses.is_dataclass(getattr(options, entry.name))
    }
    for change in changes:
        name, _, value = change.partition("=")
        if name not in plain - {"strategy", "seed"}:
            raise InputError(
                f"{text!r}: unknown option {name!r}", hint="For example: generative@ratio=32"
            )
        if name in ignored:
            raise InputError(f"{text!r}: {name} has no effect with {strategy}", hint="Omit it")
        hint = str(typing.get_type_hints(UpdateOptions)[name])
        try:
            values[name] = (
                int(value) if "int" in hint else float(value) if "float" in hint else value
            )
        except ValueError:
            raise InputError(f"{text!r}: {value!r} is not a number") from None
    return dataclasses.replace(options, **values)
