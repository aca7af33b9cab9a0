"""A memory-mapped folder of numpy arrays with a JSON header.

Written atomically, and opened only if every file has the size it was written with. No pickle: a
folder from an untrusted source can be opened safely.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_prep.errors import InputError
from data_prep.files import read_json, replacing_folder, write_json

FORMAT = 1
_NAME = re.compile(r"\w+")
_PLAIN = "biufcSU"
_MOST_AXES = 4


def write_store(
    folder: str | os.PathLike[str],
    noun: str,
    header: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
) -> None:
    """Writes `<noun>.json` and one `.npy` file for each array; replaces the whole of `folder`.

    Args:
        folder: The folder to create or replace.
        noun: What it holds ("table"); names the header file and is checked when opened.
        header: JSON-serializable values; the keys "format" and "bytes" are reserved.
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
    """Opens what `write_store` wrote, with arrays as read-only memory maps.

    Returns:
        The header and the arrays by name.

    Raises:
        InputError: `folder` holds no such thing, a file is missing, truncated or damaged, or the
            format is newer than this version reads.
    """
    folder = Path(folder)
    header_file = folder / f"{noun}.json"
    if not header_file.is_file():
        raise InputError(f"this folder is not a {noun} ({noun}.json is missing)", where=folder)
    header = read_json(header_file)
    if not isinstance(header, dict) or not isinstance(header.get("bytes"), dict):
        raise InputError(f"the file is not the header of a {noun}", where=header_file)
    if header.get("format") != FORMAT:
        raise InputError(
            f"the format is {header.get('format')!r}, but this version reads format {FORMAT}",
            where=header_file,
            hint=f"Create the {noun} again with this version",
        )
    arrays = {}
    for name, size in header["bytes"].items():
        if not _NAME.fullmatch(name):
            raise InputError(f"{name!r} is not the name of an array", where=header_file)
        file = folder / f"{name}.npy"
        actual = file.stat().st_size if file.is_file() else None
        if actual != size:
            state = "missing" if actual is None else f"{actual} bytes long instead of {size}"
            raise InputError(
                f"the file is {state}",
                where=file,
                hint=f"Create the {noun} again, or copy it completely",
            )
        arrays[name] = _open_array(file)
    return header, arrays


def _open_array(file: Path) -> np.ndarray:
    """Opens one array; the shape and dtype in its header must match the file size."""
    try:
        with open(file, "rb") as opened:
            magic = np.lib.format.read_magic(opened)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[magic]
            shape, by_columns, dtype = read(opened)
            start = opened.tell()
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind not in _PLAIN or min(shape, default=1) < 0 or len(shape) > _MOST_AXES:
            raise ValueError(f"{dtype} {shape}")
        if start + size != file.stat().st_size:
            raise ValueError(f"{size} bytes of {dtype} {shape} in {file.stat().st_size - start}")
        order: Literal["F", "C"] = "F" if by_columns else "C"
        if not size:  # an empty file cannot be mapped
            return np.zeros(shape, dtype, order=order)
        array: np.ndarray = np.memmap(file, dtype, "r", start, shape, order)
    except InputError:
        raise
    except (ValueError, KeyError, OSError, EOFError, TypeError, SyntaxError) as error:
        raise InputError(
            f"damaged: not a numpy array ({error})",
            where=file,
            hint="Create it again, or copy it completely",
        ) from None
    return array


def integers(array: np.ndarray, what: str) -> np.ndarray:
    """Returns a one-dimensional integer array, after checking that it is one.

    Raises:
        InputError: It has another dtype or shape.
    """
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise InputError(
            f"{what} is {array.dtype} {list(array.shape)}, not a one-dimensional array of integers"
        )
    return array


def check_offsets(offsets: np.ndarray, end: int, what: str) -> None:
    """Checks the offsets of concatenated items.

    Args:
        offsets: Where each item starts, and where the last one ends; integers [things + 1].
        end: Length of the array they point into.
        what: Name of the offsets, for the message.

    Raises:
        InputError: They do not ascend from 0 to the end.
    """
    integers(offsets, what)
    wrong = not len(offsets) or offsets[0] != 0 or offsets[-1] != end
    if wrong or bool((offsets[1:] < offsets[:-1]).any()):
        raise InputError(f"{what} do not increase from 0 to {end}")


@contextmanager
def naming(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Adds the folder being read, and what to do, to an error about its content."""
    try:
        yield
    except InputError as error:
        raise InputError(
            str(error), where=folder, hint="Create it again, or copy it completely"
        ) from None
    except KeyError as error:
        raise InputError(f"{error.args[0]!r} is missing", where=folder) from None
    except (TypeError, ValueError, OverflowError, IndexError) as error:
        raise InputError(
            f"damaged ({error})", where=folder, hint="Create it again, or copy it completely"
        ) from None
