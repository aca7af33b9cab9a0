"""What strategies keep with a version for the updates after it: VERSION/kept/STRATEGY.safetensors.

A version has what the version before had unless its own update writes it anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.errors import InputError

if TYPE_CHECKING:
    import torch

FOLDER = "kept"


def read_kept(version: Path, strategy: str) -> dict[str, torch.Tensor]:
    """Returns what a strategy has kept with a version, by name; empty where it has nothing.

    Raises:
        InputError: The file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = _file(version, strategy)
    if not file.is_file():
        return {}
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"what {strategy} keeps cannot be read ({str(error).splitlines()[0]})",
            where=file,
            hint="Go back with dsi rollback, or remove this file to do without",
        ) from None


def write_kept(
    version: Path, kept: Mapping[str, Mapping[str, torch.Tensor]], parent: Path | None
) -> None:
    """Writes what strategies keep into the folder of a new version.

    Args:
        version: The folder.
        kept: Strategy -> name -> tensor.
        parent: The version whose other strategies' tensors go on to count; None where the new
            model has nothing of the one before.
    """
    from safetensors.torch import save_file

    for older in sorted((parent / FOLDER).glob("*.safetensors")) if parent is not None else []:
        if older.stem not in kept:
            (version / FOLDER).mkdir(exist_ok=True)
            shutil.copy2(older, version / FOLDER)
    for strategy, tensors in kept.items():
        (version / FOLDER).mkdir(exist_ok=True)
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            _file(version, strategy),
        )


def _file(version: Path, strategy: str) -> Path:
    return version / FOLDER / f"{strategy}.safetensors"
