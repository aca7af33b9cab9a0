"""Files that are never half-written: written beside their name, then renamed onto it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_prep.errors import InputError


def sync(path: Path) -> None:
    """Flushes a file or folder to the disk, so that a rename never outlives its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Flushes a folder and every file and folder inside it to the disk."""
    for inside in folder.rglob("*"):
        if inside.is_dir() or inside.is_file():
            sync(inside)
    sync(folder)


@contextmanager
def _naming(target: Path) -> Iterator[None]:
    """Lets an error about the hidden name beside `target` name `target`, which the user gave."""
    beside = os.path.abspath(target.parent / f".{target.name}.")
    try:
        yield
    except OSError as error:
        if isinstance(error.filename, str) and os.path.abspath(error.filename).startswith(beside):
            error.filename = str(target)
        raise


@contextmanager
def replacing_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields an empty folder beside `target` that becomes `target` when the block ends well.

    An exception inside the block removes the new folder and leaves `target` as it was. A
    folder that `target` replaces is moved aside first and removed last, so that a kill at
    any moment leaves a complete folder under one of the two names.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _naming(target):
        fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.new-", dir=target.parent))
    fresh.chmod(0o755)
    try:
        with _naming(target):
            yield fresh
            sync_tree(fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
        os.rename(target, old / target.name)
        os.rename(fresh, target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.rename(fresh, target)
    sync(target.parent)


@contextmanager
def replacing_file(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a path beside `target`; what is written there becomes `target` in one rename."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _naming(target):
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    fresh = Path(name)
    fresh.chmod(0o644)
    try:
        with _naming(target):
            yield fresh
            sync(fresh)
            os.replace(fresh, target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync(target.parent)


def write_json(target: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    with replacing_file(target) as fresh:
        fresh.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file.

    Raises:
        InputError: The file is missing, or is not JSON in UTF-8.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", where=path) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON ({error})", where=path) from None


def read_json_lines(path: str | os.PathLike[str]) -> list[Any]:
    """Reads a file that grows by a JSON value a line, without a half-written last one.

    Returns:
        The values, oldest first; none where there is no such file.
    """
    values: list[Any] = []
    if not Path(path).is_file():
        return values
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            values.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return values


def write_json_lines(target: str | os.PathLike[str], values: Iterable[Any]) -> None:
    """Writes each value as a line of JSON, atomically."""
    with replacing_file(target) as fresh:
        fresh.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
