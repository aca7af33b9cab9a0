"""A folder of numpy arrays beside one JSON header, opened by memory map.

Written in one step and read back only when every file has the size it was written with. No
pickle: a folder from a stranger can be opened safely.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.errors import InputError
from data_prep.files import read_json, replacing_folder, write_json

FORMAT = 1


def write_store(
    folder: str | os.PathLike[str],
    noun: str,
    header: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
) -> None:
    """Writes `<noun>.json` and one `.npy` file for each array; replaces `folder` as a whole.

    Args:
        folder: The folder to make or to replace.
        noun: What it holds ("table"); names the header file and is checked when opened.
        header: What JSON can hold; the keys "format" and "bytes" are taken.
        arrays: Name -> array of a plain dtype.
    """
    with replacing_folder(folder) as fresh:
        sizes = {}
        for name, array in arrays.items():
            file = fresh / f"{name}.npy"
            np.save(file, np.ascontiguousarray(array), allow_pickle=False)
            sizes[name] = file.stat().st_size
        write_json(fresh / f"{noun}.json", {"format": FORMAT, **header, "bytes": sizes})


def open_store(
    folder: str | os.PathLike[str], noun: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Opens what `write_store` wrote, the arrays as read-only memory maps.

    Returns:
        The header and the arrays by name.

    Raises:
        InputError: `folder` holds no such thing, a file is missing, cut short or damaged, or
            the format is newer than this version reads.
    """
    folder = Path(folder)
    header_file = folder / f"{noun}.json"
    if not header_file.is_file():
        raise InputError(f"no {noun} here ({noun}.json is missing)", where=folder)
    header = read_json(header_file)
    if not isinstance(header, dict) or not isinstance(header.get("bytes"), dict):
        raise InputError(f"not the header of a {noun}", where=header_file)
    if header.get("format") != FORMAT:
        raise InputError(
            f"format {header.get('format')!r}, and this version reads format {FORMAT}",
            where=header_file,
            mend=f"Make the {noun} again with this version",
        )
    arrays = {}
    for name, size in header["bytes"].items():
        file = folder / f"{name}.npy"
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            state = "missing" if found is None else f"{found} bytes long instead of {size}"
            raise InputError(
                f"the file is {state}", where=file, mend=f"Make the {noun} again, or copy it whole"
            )
        arrays[name] = _open_array(file)
    return header, arrays


def _open_array(file: Path) -> np.ndarray:
    try:
        # An empty array cannot be mapped, and a memory map of a scalar is of no use.
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        try:
            array = np.load(file, allow_pickle=False)
        except (ValueError, OSError, EOFError):
            raise InputError(
                "damaged: not a numpy array", where=file, mend="Make it again, or copy it whole"
            ) from None
    return array
