"""The model: training, searching, updating, evaluating, the index directory, the command line."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsi.building import build, update
    from dsi.index import Hit, Index

__all__ = ["Hit", "Index", "build", "update"]
_HOMES = {"Hit": "index", "Index": "index", "build": "building", "update": "building"}


def __getattr__(name: str) -> Any:
    """Imports what the package offers when it is first asked for: torch takes seconds."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"dsi.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
