"""Files that are never half-written: written beside their name, then renamed onto it.

What is under way has a hidden name beside its target, and its writer holds a lock on it:

    .NAME.new-*     being written
    .NAME.old-*     holds what stood under NAME, between the two renames that replace a folder
    .NAME.gone-*    being removed

The lock of a process that was killed is free. So the next writer of NAME can tell what is left
over from what another process is writing now: it puts an old folder back where the kill came
between the two renames, and removes the rest.

What a user names is replaced by `replacing_named_folder` and `writing` alone: links are followed,
pipes and devices are written to, and nothing that we did not make is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import io
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from data_prep.errors import InputError

Ours = Callable[[str], bool]
"""Tells by its name whether we made something in a folder."""


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


_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<state>new|old|gone)-[a-z0-9_]+", re.DOTALL)


def is_leftover(name: str) -> bool:
    """Tells whether a file or folder of this name is under way, or was when its writer ended."""
    return _LEFTOVER.fullmatch(name) is not None


def without_leftovers(folder: str, names: list[str]) -> set[str]:
    """Returns the names that `shutil.copytree` is to leave out, as its `ignore`."""
    return {name for name in names if is_leftover(name)}


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Locks an open file or folder for this process; False where another process has it.

    Where the file system has no such locks, nothing counts as left over.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return wait
    return True


@contextmanager
def _beside(target: Path, state: str, *, folder: bool) -> Iterator[Path]:
    """Yields a new hidden file or folder beside `target`, which stays locked for the block."""
    prefix = f".{target.name}.{state}-"
    while True:
        with _naming(target):
            if folder:
                path = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
            else:
                handle, name = tempfile.mkstemp(prefix=prefix, dir=target.parent)
                os.close(handle)
                path = Path(name)
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue  # taken for a leftover before it was locked
        _lock(descriptor, wait=True)
        if os.fstat(descriptor).st_nlink and path.exists():
            break
        os.close(descriptor)
    try:
        yield path
    finally:
        os.close(descriptor)


def recover(target: str | os.PathLike[str], ours: Ours | None = None) -> None:
    """Clears up after killed writers of `target`, as every writer of it does first.

    A folder that was moved aside, and not replaced, is put back. What another process is writing
    is left alone, and so is everything in a folder that cannot be changed.

    Args:
        target: The file or folder.
        ours: Which names in the folder we made; what else was in it is put back, too.
    """
    target = Path(target)
    try:
        found = [name for name in os.listdir(target.parent) if name.startswith(f".{target.name}.")]
    except OSError:
        return
    for name in found:
        match = _LEFTOVER.fullmatch(name)
        if match is None or match["name"] != target.name:
            continue
        leftover = target.parent / name
        with contextlib.suppress(OSError):
            descriptor = os.open(leftover, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if _lock(descriptor, wait=False):
                    aside = leftover / target.name
                    if match["state"] == "old" and aside.is_dir() and not os.path.lexists(target):
                        os.rename(aside, target)
                    elif match["state"] == "old" and aside.is_dir():
                        _hand_over(aside, target, ours)
                    _remove(leftover)
            finally:
                os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_folder(folder: str | os.PathLike[str]) -> None:
    """Removes a folder: its name goes in one rename, so that no half of it is found under it.

    Args:
        folder: The folder; nothing happens where there is none.
    """
    folder = Path(folder)
    recover(folder)
    if not folder.is_dir():
        return
    with _beside(folder, "gone", folder=True) as gone:
        os.rename(folder, gone / folder.name)
        shutil.rmtree(gone, ignore_errors=True)


def _hand_over(aside: Path, target: Path, ours: Ours | None) -> None:
    """Moves what is not ours from the folder that was replaced into the one that replaced it."""
    if ours is None:
        return
    for name in os.listdir(aside):
        if not ours(name) and not is_leftover(name) and not os.path.lexists(target / name):
            os.rename(aside / name, target / name)


def put_in_place(fresh: Path, target: Path, ours: Ours | None = None) -> None:
    """Renames a complete folder to `target`, and removes what was there.

    A kill at any moment leaves a complete folder, under the name of `target` or where `recover`
    finds it.

    Args:
        fresh: The folder.
        target: What it becomes.
        ours: Which names in `target` we made. What else is in it stays; None: all are ours.
    """
    if os.path.lexists(target):
        with _beside(target, "old", folder=True) as old:
            os.rename(target, old / target.name)
            try:
                os.rename(fresh, target)
            except OSError:
                os.rename(old / target.name, target)
                old.rmdir()
                raise
            _hand_over(old / target.name, target, ours)
            # Half a folder must not be taken for the old one.
            gone = old.with_name(old.name.replace(".old-", ".gone-"))
            os.rename(old, gone)
            shutil.rmtree(gone, ignore_errors=True)
    else:
        os.rename(fresh, target)
    sync(target.parent)


@contextmanager
def replacing_folder(target: str | os.PathLike[str], ours: Ours | None = None) -> Iterator[Path]:
    """Yields an empty folder beside `target` that becomes `target` when the block ends well.

    An exception inside the block removes the new folder and leaves `target` as it was. What a
    killed writer of `target` left is cleared up before the block begins.

    Args:
        target: The folder.
        ours: Which names in `target` we made. What else is in it stays; None: all are ours.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    recover(target, ours)
    with _beside(target, "new", folder=True) as fresh:
        fresh.chmod(0o755)
        try:
            with _naming(target):
                yield fresh
                sync_tree(fresh)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        put_in_place(fresh, target, ours)


@contextmanager
def replacing_named_folder(target: str | os.PathLike[str], ours: Ours) -> Iterator[Path]:
    """Does what `replacing_folder` does, for a folder that a user named.

    A link stays a link: what it leads to is replaced. What is not ours in the folder stays.

    Args:
        target: The folder.
        ours: Which names in it we made.

    Raises:
        InputError: The folder cannot be replaced.
    """
    refuse_irreplaceable(target, ours)
    with replacing_folder(os.path.realpath(target), ours) as fresh:
        yield fresh


def refuse_irreplaceable(target: str | os.PathLike[str], ours: Ours | None = None) -> None:
    """Refuses a folder that cannot make way for another: one in use, or where a disk is mounted.

    Args:
        target: The folder; nothing happens where there is none.
        ours: Which names in it we made.

    Raises:
        InputError: It is the current folder, one above it or a mount point, or holds one that is
            not ours.
    """
    folder = Path(os.path.realpath(target))
    if not folder.is_dir():
        return
    what = None
    with contextlib.suppress(FileNotFoundError):  # the current folder has been removed
        if Path.cwd().is_relative_to(folder):
            what = "this is the current folder, or one above it"
    if os.path.ismount(folder):
        what = "a disk is mounted here"
    if what is not None:
        raise InputError(
            f"{what}, and the command replaces the folder as a whole",
            where=target,
            hint=f"Name a folder inside it, such as {os.path.join(target, 'new')}",
        )
    inside = [] if ours is None else [name for name in os.listdir(folder) if not ours(name)]
    for name in inside:
        if os.path.ismount(folder / name):
            raise InputError(
                "a disk is mounted here, and the command replaces the folder around it",
                where=folder / name,
                hint="Choose another --out",
            )


@contextmanager
def replacing_file(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a path beside `target`; what is written there becomes `target` in one rename."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    recover(target)
    with _beside(target, "new", folder=False) as fresh:
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


_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(?P<number>\d+)|/dev/std(?P<name>out|err)|-")


@contextmanager
def writing(target: str | os.PathLike[str]) -> Iterator[IO[str]]:
    """Yields a text file in UTF-8 that becomes what a user named when the block ends well.

    Pipes, terminals and other devices are written to as they are, and stay what they are. A link
    stays a link: the file that it leads to is replaced. A name that ends in `.gz` is gzipped.

    Args:
        target: The file; `-` for standard output.
    """
    target = Path(target)
    open_one = _DESCRIPTOR.fullmatch(os.fspath(target))
    if open_one is not None:
        # Opened by its name, a file would be written from its beginning again.
        number = int(open_one["number"] or {"err": 2}.get(open_one["name"], 1))
        with os.fdopen(os.dup(number), "w", encoding="utf-8") as stream:
            yield stream
        return
    if is_stream(target):
        with target.open("w", encoding="utf-8") as stream:
            yield stream
        return
    with replacing_file(os.path.realpath(target)) as fresh:
        if target.suffix.lower() == ".gz":
            # Neither name nor time: the same content gives the same file.
            with (
                fresh.open("wb") as raw,
                gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
                io.TextIOWrapper(packed, encoding="utf-8") as file,
            ):
                yield file
        else:
            with fresh.open("w", encoding="utf-8") as file:
                yield file


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Tells whether there is a pipe, terminal or other device: neither a file nor a folder."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


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
