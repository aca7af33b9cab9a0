"""State of strategies between updates: VERSION/strategy_state/STRATEGY.safetensors.

A version inherits the states of its parent, except those that its own update replaces.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import InputError
from data_prep.former_names import FOLDERS

if TYPE_CHECKING:
    import torch

FOLDER = "strategy_state"
FORMER_FOLDER = FOLDERS[FOLDER]


_LAYOUTS: Mapping[str, Mapping[str, str]] = {
    "edit": {
        "seconds": "float position width width",
        "counts": "int position",
        "fingerprint": "int 16",
        "documents": "int update",
        "change": "float edit",
    },
    "pamt": {"reads": "float row", "fingerprint": "int 16", "moved": "int 1"},
    "periods": {"updates": "int 1"},
}
"""Strategy -> name of each tensor -> its dtype without bits, and its sizes: numbers or names."""


def read_strategy_state(
    version: Path, strategy: str, sizes: Mapping[str, int] | None = None
) -> dict[str, torch.Tensor]:
    """Returns the tensors that a strategy stored with a version, by name; empty if there are none.

    Args:
        version: The folder of the version.
        strategy: The strategy.
        sizes: Sizes by their names in `_LAYOUTS`, as far as the model determines them.

    Raises:
        InputError: The file is damaged, or its tensors are not those of the strategy and the model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = _files(version).get(strategy)
    if file is None:
        return {}
    try:
        state = load_file(file)
    except (SafetensorError, OSError) as error:
        raise _refusal(file, str(error).splitlines()[0]) from None
    check_strategy_state(version, strategy, state, _LAYOUTS.get(strategy, {}), sizes)
    for name, tensor in state.items():
        if not bool(tensor.isfinite().all()):
            raise _refusal(file, f"{name} has values that are not finite")
    return state


def check_strategy_state(
    version: Path,
    strategy: str,
    state: Mapping[str, Any],
    layout: Mapping[str, str],
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Refuses a state that lacks a tensor, or whose tensors have other dtypes or shapes.

    Args:
        version: The folder of the version.
        strategy: The strategy.
        state: Tensors or arrays by name.
        layout: As in `_LAYOUTS`.
        sizes: Sizes that are known, by their names in the layout.

    Raises:
        InputError: It is one.
    """
    file, known = _files(version)[strategy], dict(sizes or {})
    for name, form in layout.items():
        kind, *expected = form.split()
        if name not in state:
            raise _refusal(file, f"{name} is missing")
        shape, dtype = list(state[name].shape), str(state[name].dtype).removeprefix("torch.")
        fits = kind in dtype and len(shape) == len(expected)
        for size, word in zip(shape, expected, strict=False):
            fits = fits and size == (int(word) if word.isdigit() else known.setdefault(word, size))
        if not fits:
            raise _refusal(file, f"{name} is {dtype} {shape}, which does not fit the model")


def _refusal(file: Path, why: str) -> InputError:
    return InputError(
        f"cannot read the state of the strategy {file.stem} ({why})",
        where=file,
        hint="Use dsi rollback, or remove this file to update without the state",
    )


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
