"""The model: training, searching, updating, evaluating, the index directory, the command line."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_prep.errors import InputError
    from docids.embeddings import EmbeddingOptions
    from dsi.building import build, delete, evaluate, rollback, update
    from dsi.data.options import MixOptions
    from dsi.index import Hit, Index
    from dsi.indexing.options import TrainingOptions
    from dsi.lexical.options import LexicalOptions
    from dsi.objectives.options import ObjectiveOptions
    from dsi.search.options import GuidanceOptions, HopOptions, SearchOptions
    from dsi.text_encoders.text_encoder import VocabularyOptions
    from dsi.training.options import (
        LoopOptions,
        LoraOptions,
        ModelOptions,
        OptimizerOptions,
        SamOptions,
    )
    from dsi.updating.options import UpdateOptions

    __version__: str

__all__ = [
    "EmbeddingOptions",
    "GuidanceOptions",
    "Hit",
    "HopOptions",
    "Index",
    "InputError",
    "LexicalOptions",
    "LoopOptions",
    "LoraOptions",
    "MixOptions",
    "ModelOptions",
    "ObjectiveOptions",
    "OptimizerOptions",
    "SamOptions",
    "SearchOptions",
    "TrainingOptions",
    "UpdateOptions",
    "VocabularyOptions",
    "__version__",
    "build",
    "delete",
    "evaluate",
    "rollback",
    "update",
]
_MODULES = {
    "data_prep.errors": ("InputError",),
    "docids.embeddings": ("EmbeddingOptions",),
    "dsi.building": ("build", "delete", "evaluate", "rollback", "update"),
    "dsi.data.options": ("MixOptions",),
    "dsi.index": ("Hit", "Index"),
    "dsi.indexing.options": ("TrainingOptions",),
    "dsi.lexical.options": ("LexicalOptions",),
    "dsi.objectives.options": ("ObjectiveOptions",),
    "dsi.search.options": ("GuidanceOptions", "HopOptions", "SearchOptions"),
    "dsi.text_encoders.text_encoder": ("VocabularyOptions",),
    "dsi.training.options": (
        "LoopOptions",
        "LoraOptions",
        "ModelOptions",
        "OptimizerOptions",
        "SamOptions",
    ),
    "dsi.updating.options": ("UpdateOptions",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Imports public names on first access, since importing torch takes seconds."""
    if name == "__version__":
        from importlib.metadata import version

        return version("dsi-toolkit")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the public names, imported or not."""
    return sorted({*globals(), *__all__})
