"""The location of a checkpoint: a hub id, a folder, or a GGUF file."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from data_prep.errors import InputError


def checkpoint_location(name: str) -> tuple[str, dict[str, str]]:
    """Returns what transformers should load, and the option that names a GGUF file in it.

    Args:
        name: A hub id, the path of a folder, or that of a GGUF file.

    Raises:
        InputError: It is a GGUF file, and the package that reads such files is not installed.
    """
    file = Path(name)
    if file.suffix.lower() != ".gguf" or not file.is_file():
        return name, {}
    if importlib.util.find_spec("gguf") is None:
        raise InputError(
            "reading a GGUF file requires the package gguf, which is not installed",
            where=file,
            hint="pip install 'dsi-toolkit[gguf]'",
        )
    return str(file.parent), {"gguf_file": file.name}
