"""The model: training, searching, updating, evaluating, the index directory, the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsi.index import Hit, Index

__all__ = ["Hit", "Index"]


def __getattr__(name: str) -> Any:
    """Imports what the package offers when it is first asked for: torch takes seconds."""
    if name in __all__:
        from dsi import index

        return getattr(index, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
