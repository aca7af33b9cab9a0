"""Options of the first training of an index, read from the manifest of a version."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from data_prep.checks import stored_options
from data_prep.errors import InputError
from data_prep.former_names import with_current_names
from dsi.backbones.backbone import FORMER_SIZES
from dsi.index_folder.versions import Manifest
from dsi.indexing.options import TrainingOptions

T = TypeVar("T")


def training_options(manifest: Manifest) -> TrainingOptions:
    """Returns the options of the first training of an index.

    Args:
        manifest: Manifest of any of its versions.

    Raises:
        InputError: The manifest does not contain them.
    """
    stored = manifest.configuration.get("options")
    if not isinstance(stored, Mapping):
        raise InputError(
            "this version does not record how it was trained",
            hint="Train the index again with dsi train",
        )
    with stored_options():
        return from_dict(TrainingOptions, _current(stored))


def _current(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """Converts options stored by an earlier release to the current ones.

    Retired sizes are mapped to their replacements. Manifests without options of the lexical layer
    have no lexical layer.
    """
    known = {"lexical": {"enabled": False}, **with_current_names(stored)}
    model = known.get("model")
    if not isinstance(model, Mapping) or model.get("size") not in FORMER_SIZES:
        return known
    return {**known, "model": {**model, "size": FORMER_SIZES[model["size"]]}}


def from_dict(kind: type[T], values: Mapping[str, Any]) -> T:
    """Returns an options dataclass from its values in a manifest.

    Unknown names are ignored; missing ones take their defaults.

    Args:
        kind: The dataclass; its fields may be dataclasses.
        values: The output of `dataclasses.asdict`.
    """
    made: dict[str, Any] = {}
    for name, inner in typing.get_type_hints(kind).items():
        if name not in values:
            continue
        value = values[name]
        if dataclasses.is_dataclass(inner) and isinstance(inner, type):
            value = from_dict(inner, value) if isinstance(value, Mapping) else value
        elif isinstance(value, list) and typing.get_origin(inner) is tuple:
            value = tuple(value)
        made[name] = value
    return kind(**made)
