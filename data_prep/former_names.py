"""Former names of options and of keys in files: the one table, for command lines and stored JSON.

Command lines, configuration files, manifests of indexes and `dataset.json` of earlier versions are
read under the current names. To rename something that is stored, rename it and add a line here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NAMES: Mapping[str, str] = {
    "optimiser": "optimizer",
    "optimizer.body": "optimizer.backbone_lr_scale",
    "loop.length_groups": "loop.length_buckets",
    "loop.wandb": "loop.track",
    "licence": "license",
    "docids_folder": "docids",
    "memorised": "memorized",
    "labelled": "labeled",
    "dev_share": "dev_fraction",
    "test_share": "test_fraction",
    "keyword_share": "keyword_fraction",
    "span_share": "span_fraction",
    "title_share": "title_fraction",
    "template_share": "template_fraction",
    "new_share": "new_fraction",
    "reglora.share": "reglora.fraction",
    "split.share": "split.fraction",
}
"""Former name -> current name, applied in order.

A dotted name stands for a key within a group, or for an option of one command: COMMAND.OPTION.
"""

VALUES: Mapping[str, Mapping[str, str]] = {
    "sam.weights": {"body": "backbone"},
    "mix.negatives": {"labelled": "labeled"},
    "kind": {"normalise": "normalize"},
}
"""Current name -> former value -> current value."""

PREFIXES: Mapping[str, str] = {"loop.wandb": "wandb:"}
"""Former name -> what its values begin with under the current name."""

FOLDERS: Mapping[str, str] = {"strategy_state": "kept"}
"""Folder in a version of an index -> its former name."""


def current_name(name: str) -> str:
    """Returns the current form of a dotted name, such as `train.optimizer.lr`."""
    for former, current in NAMES.items():
        name = re.sub(rf"(?:(?<=\.)|^){re.escape(former)}(?=\.|$)", current, name)
    return name


def current_value(name: str, value: Any) -> Any:
    """Returns the current form of a value.

    Args:
        name: The former or current dotted name of its option or key; only its end has to match the
            tables.
        value: The value; values that were never renamed are returned unchanged.
    """
    for former, prefix in PREFIXES.items():
        if isinstance(value, str) and f".{name}".endswith(f".{former}"):
            return f"{prefix}{value}"
    name = current_name(name)
    for option, values in VALUES.items():
        if isinstance(value, str) and f".{name}".endswith(f".{option}"):
            return values.get(value, value)
    return value


def with_current_names(stored: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns stored JSON under current names, at any depth.

    Args:
        stored: A JSON object.
        prefix: The dotted name of the object, where it is part of another.
    """
    current: dict[str, Any] = {}
    for key, value in stored.items():
        full = f"{prefix}.{key}" if prefix else key
        name = current_name(full)
        if isinstance(value, Mapping):
            value = with_current_names(value, name)
        elif isinstance(value, list):
            value = [
                with_current_names(entry, name) if isinstance(entry, Mapping) else entry
                for entry in value
            ]
        current[key if name == full else name.rpartition(".")[2]] = current_value(full, value)
    return current
