"""State of strategies between updates: VERSION/strategy_state/STRATEGY.safetensors.

A version inherits the states of its parent, except those that its own update replaces.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.errors import InputError
from data_prep.former_names import FOLDERS

if TYPE_CHECKING:
    import torch

FOLDER = "strategy_state"
FORMER_FOLDER = FOLDERS[FOLDER]


def read_strategy_state(version: Path, strategy: str) -> dict[str, torch.Tensor]:
    """Returns the tensors that a strategy stored with a version, by name; empty if there are none.

    Raises:
        InputError: The file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = _files(version).get(strategy)
    if file is None:
        return {}
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"cannot read the state of the strategy {strategy} ({str(error).splitlines()[0]})",
            where=file,
            hint="Use dsi rollback, or remove this file to update without the state",
        ) from None


def write_strategy_state(
    version: Path, states: Mapping[str, Mapping[str, torch.Tensor]], parent: Path | None
) -> None:
    """Writes the states of strategies into the folder of a new version.

    Args:
        version: The folder.
        states: Strategy -> name -> tensor.
        parent: The version from which the states of other strategies are copied; None if the new
            model is trained from scratch.
    """
    from safetensors.torch import save_file

    for strategy, file in _files(parent).items() if parent is not None else ():
        if strategy not in states:
            (version / FOLDER).mkdir(exist_ok=True)
            shutil.copy2(file, version / FOLDER)
    for strategy, tensors in states.items():
        (version / FOLDER).mkdir(exist_ok=True)
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            version / FOLDER / f"{strategy}.safetensors",
        )


def _files(version: Path) -> dict[str, Path]:
    """Returns strategy -> file of its state."""
    return {
        file.stem: file
        for folder in (FORMER_FOLDER, FOLDER)
        for file in sorted((version / folder).glob("*.safetensors"))
    }
