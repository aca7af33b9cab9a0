"""Grids of training options: all combinations of options with several values."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from data_prep.errors import InputError
from dsi.command_line.arguments import Arguments
from dsi.indexing.options import TrainingOptions
from dsi.indexing.start import refuse_unused, resolve_start

SWITCHES = {"sam": ("sam.rho", {"false": "0.0", "true": "0.05"})}
"""Shorthand for on and off -> the option and its value; for SAM, the usual radius."""
_LONGEST_NAME = 100
"""Bytes; file systems allow 255."""
_NO_NAME = re.compile(r"[^\w.=,+-]+")
_NOT_VARIED = ("seed",)


@dataclass(frozen=True)
class Cell:
    """One training of a grid.

    Attributes:
        varied: Option -> value, for the options that the grid varies.
        options: All options, the seed among them.
        steps: Optimizer steps of its training, once defaults are resolved.
    """

    varied: Mapping[str, Any]
    options: TrainingOptions
    steps: int

    @property
    def name(self) -> str:
        """Name of its folder and row."""
        words = ",".join(f"{key}={value}" for key, value in self.varied.items()) or "index"
        name = _NO_NAME.sub("_", f"{words},seed={self.options.seed}")
        content = name.encode()
        if len(content) <= _LONGEST_NAME:
            return name
        digest = hashlib.sha256(content).hexdigest()[:8]
        return f"{content[:_LONGEST_NAME].decode(errors='ignore')}-{digest}"

    @property
    def fingerprint(self) -> str:
        """A hash of all its options."""
        return hashlib.sha256(json.dumps(asdict(self.options), default=str).encode()).hexdigest()


class GridArguments(Arguments):
    """A command line in which training options may have several comma-separated values."""

    def __init__(self, verb: str, function: Any) -> None:
        super().__init__(verb, function)
        self._varying = set(option_types()) - set(_NOT_VARIED)
        self.hints.update(dict.fromkeys(SWITCHES, str))

    def _is_switch_value(self, name: str, word: str) -> bool:
        return all(
            super(GridArguments, self)._is_switch_value(name, each) for each in _split_values(word)
        )

    def _parse_words(self, words: Sequence[str]) -> Any:
        parsed = super()._parse_words(words)
        vary: dict[str, list[str]] = {}
        for name, (option, meaning) in SWITCHES.items():
            if name not in parsed.values:
                continue
            values = _split_values(parsed.values.pop(name))
            unknown = [value for value in values if value not in meaning]
            if unknown:
                raise InputError(f"{unknown[0]!r} is not true or false", where=f"--{name}")
            parsed.values[option] = ",".join(meaning[value] for value in values)
            parsed.where[option] = f"--{name}"
        for name in [name for name in parsed.values if name in self._varying]:
            values = _split_values(parsed.values[name])
            if len(values) > 1:
                vary[name] = values
                del parsed.values[name]
        for name in SWITCHES:
            self.hints.pop(name, None)
        if vary:
            stated = json.loads(parsed.values.get("vary", "{}"))
            parsed.values["vary"] = json.dumps({**stated, **vary})
            parsed.where["vary"] = "--" + " --".join(vary)
        return parsed


def _split_values(text: str) -> list[str]:
    """Returns the values in a text: a YAML list, or comma-separated values."""
    if text.lstrip().startswith("["):
        values = json.loads(text)
        return [value if isinstance(value, str) else json.dumps(value) for value in values]
    if text.lstrip().startswith("{"):
        return [text]
    return [part.strip() for part in text.split(",")]


def option_types() -> dict[str, Any]:
    """Returns the types of all individual training options by full name."""

    def inside(kind: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        hints = typing.get_type_hints(kind)
        for entry in dataclasses.fields(kind):
            hint = hints[entry.name]
            if dataclasses.is_dataclass(hint):
                yield from inside(hint, f"{prefix}{entry.name}.")
            else:
                yield f"{prefix}{entry.name}", hint

    return dict(inside(TrainingOptions, ""))


def cells_of(
    base: TrainingOptions,
    vary: Mapping[str, Sequence[Any]],
    variants: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
) -> list[Cell]:
    """Returns the validated cells of a grid, in training order.

    All cells of one seed come before those of the next, so that an interrupted grid has every
    combination once.

    Args:
        base: Options that the cells share.
        vary: Option -> its values.
        variants: Name -> options that are set together; empty for a plain grid.
        seeds: Random seeds.

    Raises:
        InputError: A value is unknown, a combination is invalid, two cells are the same, or
            defaults alone make some train longer than others.
    """
    types = option_types()
    for name in [*vary, *(name for each in variants.values() for name in each)]:
        if name not in types:
            raise InputError(f"unknown option {name!r} in the grid", hint="See dsi train --help")
    if not seeds:
        raise InputError("there is no seed", where="--seeds", hint="Give one, or omit it")
    if len(set(seeds)) < len(seeds):
        raise InputError("the seeds must differ", where="--seeds")
    for name in variants:
        if not name.strip():
            raise InputError("a variant has no name", where="variants", hint="Give each a name")
    combinations = [
        dict(zip(vary, values, strict=True)) for values in itertools.product(*vary.values())
    ]
    settings: list[tuple[str | None, Mapping[str, Any]]] = [*variants.items()] or [(None, {})]
    cells: list[Cell] = []
    for seed in seeds:
        for variant, set_together in settings:
            for values in combinations:
                settings_of_cell = {**set_together, **values, "seed": seed}
                typed = {
                    key: _typed(key, value, types[key]) for key, value in settings_of_cell.items()
                }
                label = {key: typed[key] for key in values}
                label = {"variant": variant, **label} if variant is not None else label
                cells.append(_checked(base, typed, label))
    refuse_duplicates(cells)
    refuse_unequal_steps(cells)
    return cells


def refuse_duplicates(cells: Sequence[Cell]) -> None:
    """Refuses a grid in which two cells would train the same index, or in the same folder.

    Raises:
        InputError: Two cells are the same, or have names that make one folder.
    """
    seen: dict[str, Cell] = {}
    folders: dict[str, Cell] = {}
    for cell in cells:
        namesake = folders.setdefault(cell.name, cell)
        if namesake is not cell and namesake.fingerprint != cell.fingerprint:
            raise InputError(
                f"{_words(namesake.varied)} and {_words(cell.varied)} would both be stored in the "
                f"folder {cell.name}",
                where="grid",
                hint="Use names of variants that differ in letters or digits",
            )
        other = seen.setdefault(cell.fingerprint, cell)
        if other is not cell:
            raise InputError(
                f"{cell.name} and {other.name} are the same training",
                where="grid",
                hint="Give each value once",
            )


def refuse_unequal_steps(cells: Sequence[Cell]) -> None:
    """Refuses a grid in which defaults alone make some cells train longer than others.

    The default of `loop.steps` depends on other options, such as SAM or a pretrained model. A
    difference between such cells could be one of the steps. Steps that are stated may differ.

    Raises:
        InputError: Cells differ in their steps, and those of at least one are a default.
    """
    default = next((cell for cell in cells if cell.options.loop.steps is None), None)
    other = default and next((cell for cell in cells if cell.steps != default.steps), None)
    if default is None or other is None:
        return
    fewer, more = sorted((default, other), key=lambda cell: cell.steps)
    raise InputError(
        f"{_words(more.varied)} trains {more.steps:,} steps and {_words(fewer.varied)} "
        f"trains {fewer.steps:,}, so the grid would also compare numbers of steps",
        where="grid",
        hint=f"Use --loop.steps {more.steps} for all of them, or set loop.steps in each variant",
    )


def _words(varied: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in varied.items())


def _checked(base: TrainingOptions, values: Mapping[str, Any], varied: Mapping[str, Any]) -> Cell:
    """Returns a cell, checked for compatibility of its options."""
    try:
        options = with_values(base, values)
        refuse_unused(options, None)
        steps = resolve_start(options, None).loop.total
    except InputError as error:
        words = _words(varied)
        raise InputError(str(error), where=f"grid, {words}" if words else "grid") from None
    return Cell(varied, options, steps)


def with_values(options: TrainingOptions, values: Mapping[str, Any]) -> TrainingOptions:
    """Returns options with the given values, by full name."""
    return typing.cast(TrainingOptions, _replaced(options, values))


def _replaced(options: Any, values: Mapping[str, Any]) -> Any:
    direct: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        group, dot, rest = name.partition(".")
        if dot:
            inner.setdefault(group, {})[rest] = value
        else:
            direct[name] = value
    for group, below in inner.items():
        direct[group] = _replaced(getattr(options, group), below)
    return dataclasses.replace(options, **direct)


def _typed(name: str, value: Any, hint: Any) -> Any:
    """Converts a value to the type of an option; strings are parsed as on the command line.

    Raises:
        InputError: The value does not have that type.
    """
    kinds = set(typing.get_args(hint)) | {hint}
    if not isinstance(value, str):
        return float(value) if float in kinds and isinstance(value, int) else value
    if type(None) in kinds and value in ("null", "none", "None") and str not in kinds:
        return None
    if bool in kinds and value in ("true", "false"):
        return value == "true"
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(value)
            except ValueError:
                continue
    if kinds & {int, float, bool} and str not in kinds:
        raise InputError(f"{value!r} is not a valid value of this option", where=f"--{name}")
    return value
