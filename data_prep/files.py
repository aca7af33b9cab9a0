"""Atomic file writes: everything is written under a temporary name and then renamed.

Temporary files and folders are hidden siblings of their target, and their writer locks them:

    .NAME.new-*     being written
    .NAME.old-*     the previous NAME, between the two renames that replace a folder
    .NAME.gone-*    being removed

A killed process releases its locks, so that the next writer of NAME can tell leftovers from files
that another process is writing. It restores the previous folder if the kill came between the two
renames, and removes the rest.

Paths that users name are replaced only by `replacing_named_folder` and `writing`, which follow
links, write to pipes and devices, and keep files that the toolkit did not write.
"""

from __future__ import annotations

import contextlib
import errno
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

from data_prep.descriptor_lock import lock_descriptor, make_folder, nothing_here
from data_prep.errors import InputError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Ours = Callable[[str], bool]
"""Returns whether the toolkit writes an entry of this name into a folder."""
_DATA_SUFFIXES = frozenset(
    {
        ".arrow",
        ".bin",
        ".gguf",
        ".jinja",
        ".json",
        ".jsonl",
        ".lock",
        ".model",
        ".npy",
        ".npz",
        ".parquet",
        ".pt",
        ".safetensors",
    }
)
_DATA_NAMES = frozenset({"lock", "merges.txt", "vocab.txt"})


def is_data(name: str) -> bool:
    """Returns whether a file of this name may be the toolkit's own inside a folder it replaces."""
    return name in _DATA_NAMES or Path(name).suffix in _DATA_SUFFIXES


def sync(path: Path) -> None:
    """Flushes a file or folder to disk, so that its content is there before it is renamed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Flushes a folder and all of its content to disk."""
    for inside in folder.rglob("*"):
        if inside.is_dir() or inside.is_file():
            sync(inside)
    sync(folder)


@contextmanager
def _naming(target: Path) -> Iterator[None]:
    """Makes errors about the temporary file of `target`, or about no file, name `target`."""
    prefix = os.path.abspath(target.parent / f".{target.name}.")
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _NO_ROOM:  # of a file that is open already
            error.filename = str(target)
        if isinstance(error.filename, str) and os.path.abspath(error.filename).startswith(prefix):
            error.filename = str(target)
        raise


_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<state>new|old|gone)-[a-z0-9_]+", re.DOTALL)


def is_leftover(name: str) -> bool:
    """Returns whether this is the name of a temporary file or folder."""
    return _LEFTOVER.fullmatch(name) is not None


def without_leftovers(folder: str, names: list[str]) -> set[str]:
    """Returns temporary names in a folder; an `ignore` function for `shutil.copytree`."""
    return {name for name in names if is_leftover(name)}


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Locks an open file or folder; returns False if another process holds the lock.

    On file systems without locks, nothing is treated as a leftover.
    """
    try:
        lock_descriptor(descriptor, wait=wait)
    except OSError:
        return wait
    return True


@contextmanager
def _temporary_sibling(target: Path, state: str, *, folder: bool) -> Iterator[Path]:
    """Yields a new temporary file or folder beside `target`, locked while the block runs."""
    prefix = f".{target.name}.{state}-"
    while True:
        try:
            with _naming(target):
                if folder:
                    path = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
                else:
                    handle, name = tempfile.mkstemp(prefix=prefix, dir=target.parent)
                    os.close(handle)
                    path = Path(name)
        except FileNotFoundError:
            raise nothing_here(target) from None
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
    """Cleans up after killed writers of `target`; every writer does this first.

    A previous folder that was not replaced is restored. Files that another process is writing, and
    read-only folders, are left alone.

    Args:
        target: The file or folder.
        ours: Which names in the folder the toolkit writes; other files are restored, too.
    """
    target = Path(target)
    try:
        leftovers = [
            name for name in os.listdir(target.parent) if name.startswith(f".{target.name}.")
        ]
    except OSError:
        return
    for name in leftovers:
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
                        _move_own_files(aside, target, ours)
                    _remove(leftover)
            finally:
                os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_folder(folder: str | os.PathLike[str]) -> None:
    """Removes a folder atomically, by renaming it first.

    Args:
        folder: The folder; a missing one is ignored.
    """
    folder = Path(folder)
    recover(folder)
    if not folder.is_dir():
        return
    with _temporary_sibling(folder, "gone", folder=True) as temporary:
        os.rename(folder, temporary / folder.name)
        shutil.rmtree(temporary, ignore_errors=True)


def _move_own_files(aside: Path, target: Path, ours: Ours | None) -> None:
    """Moves the user's own files from the replaced folder into the new one, at every depth.

    Inside a folder that the toolkit writes, they are the files that are not `is_data`, and folders
    without any such data.
    """
    if ours is None:
        return
    for name in os.listdir(aside):
        old, new = aside / name, target / name
        if is_leftover(name):
            continue
        if not os.path.lexists(new):
            if not ours(name) and not (ours is is_data and _has_data(old)):
                os.rename(old, new)
        elif all(path.is_dir() and not path.is_symlink() for path in (old, new)):
            _move_own_files(old, new, is_data)


def _has_data(path: Path) -> bool:
    """Returns whether a folder is empty or contains data, and so may be the toolkit's own."""
    if path.is_symlink() or not path.is_dir():
        return False
    names = [name for _, _, names in os.walk(path) for name in names]
    return not names or any(map(is_data, names))


def put_in_place(fresh: Path, target: Path, ours: Ours | None = None) -> None:
    """Renames a complete folder to `target`, and removes the previous one.

    A kill at any moment leaves a complete folder at `target` or where `recover` finds it.

    Args:
        fresh: The folder.
        target: Its new path.
        ours: Which names in `target` the toolkit writes; other files are kept. None for all.
    """
    if os.path.lexists(target):
        with _temporary_sibling(target, "old", folder=True) as old:
            os.rename(target, old / target.name)
            try:
                os.rename(fresh, target)
            except OSError:
                os.rename(old / target.name, target)
                old.rmdir()
                raise
            _move_own_files(old / target.name, target, ours)
            # A partial folder must not be mistaken for the previous one.
            discarded = old.with_name(old.name.replace(".old-", ".gone-"))
            os.rename(old, discarded)
            shutil.rmtree(discarded, ignore_errors=True)
    else:
        os.rename(fresh, target)
    sync(target.parent)


@contextmanager
def replacing_folder(target: str | os.PathLike[str], ours: Ours | None = None) -> Iterator[Path]:
    """Yields an empty folder beside `target` that replaces `target` if the block succeeds.

    An exception inside the block removes the new folder and leaves `target` unchanged. Leftovers of
    killed writers of `target` are removed before the block begins.

    Args:
        target: The folder.
        ours: Which names in `target` the toolkit writes; other files are kept. None for all.

    Raises:
        InputError: `target` is a file, a device or a pipe.
    """
    target = Path(target)
    _refuse_no_folder(target)
    make_folder(target.parent)
    recover(target, ours)
    with _temporary_sibling(target, "new", folder=True) as fresh:
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
    """Like `replacing_folder`, for a folder that a user named.

    The target of a link is replaced, not the link. The user's own files in the folder are kept.

    Args:
        target: The folder.
        ours: Which names in it the toolkit writes.

    Raises:
        InputError: The folder cannot be replaced.
    """
    refuse_irreplaceable(target, ours)
    with replacing_folder(os.path.realpath(target), ours) as fresh:
        yield fresh


def refuse_irreplaceable(target: str | os.PathLike[str], ours: Ours | None = None) -> None:
    """Refuses a folder that cannot be replaced: a file, a device, one in use, or a mount point.

    Args:
        target: The folder; a missing one passes.
        ours: Which names in it the toolkit writes.

    Raises:
        InputError: It is no folder, is the current folder or a parent of it, or is or contains a
            mount point.
    """
    folder = Path(os.path.realpath(target))
    _refuse_no_folder(folder)
    if not folder.is_dir():
        return
    what = None
    with contextlib.suppress(FileNotFoundError):  # the current folder has been removed
        if Path.cwd().is_relative_to(folder):
            what = "this is the current folder or one of its parents"
    if os.path.ismount(folder):
        what = "a disk is mounted here"
    if what is not None:
        raise InputError(
            f"{what}, and the command would replace the whole folder",
            where=target,
            hint=f"Name a folder inside it, such as {os.path.join(target, 'new')}",
        )
    inside = [] if ours is None else [name for name in os.listdir(folder) if not ours(name)]
    for name in inside:
        if os.path.ismount(folder / name):
            raise InputError(
                "this is a mount point, and the command would replace the folder that contains it",
                where=folder / name,
                hint="Choose another --out",
            )


def _refuse_no_folder(target: Path) -> None:
    """Raises InputError if a path is a file, a device or a pipe, which a folder would replace.

    A path that is still a link after links were followed leads in a circle.
    """
    if target.is_symlink() and target == Path(os.path.realpath(target)):
        raise InputError("links that lead in a circle", where=target, hint="Choose another --out")
    if target.exists() and not target.is_dir():
        what = "a device or pipe" if is_stream(target) else "a file"
        raise InputError(f"this is {what}, not a folder", where=target, hint="Choose another --out")


@contextmanager
def replacing_file(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a path beside `target`, which is renamed to `target` at the end of the block."""
    target = Path(target)
    make_folder(target.parent)
    recover(target)
    with _temporary_sibling(target, "new", folder=False) as fresh:
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
    """Yields a UTF-8 text file that replaces the file a user named if the block succeeds.

    Pipes, terminals and other devices are written to directly. The target of a link is replaced,
    not the link. A file whose name ends in `.gz` is gzipped.

    Args:
        target: The file; `-` for standard output.

    Raises:
        InputError: It is a folder, or links lead in a circle.
    """
    with writing_bytes(target) as raw:
        if Path(target).suffix.lower() != ".gz" or is_stream(target):
            with io.TextIOWrapper(raw, encoding="utf-8") as file:
                yield file
            return
        # Neither name nor time: the same content gives the same file.
        with (
            gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
            io.TextIOWrapper(packed, encoding="utf-8") as file,
        ):
            yield file


@contextmanager
def writing_bytes(target: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Like `writing`, for binary formats.

    Args:
        target: The file; `-` for standard output.

    Raises:
        InputError: It is a folder, or links lead in a circle.
    """
    target = Path(target)
    open_one = _DESCRIPTOR.fullmatch(os.fspath(target))
    if open_one is not None:
        # Opened by name, a file would be overwritten from its beginning.
        number = int(open_one["number"] or {"err": 2}.get(open_one["name"], 1))
        with _naming(target), os.fdopen(os.dup(number), "wb") as stream:
            yield stream
        return
    if is_stream(target):
        with _naming(target), target.open("wb") as stream:
            yield stream
        return
    refuse_no_file(target)
    with replacing_file(os.path.realpath(target)) as fresh, fresh.open("wb") as file:
        yield file


def refuse_no_file(target: str | os.PathLike[str]) -> None:
    """Refuses a path to which no file can be written; a missing one, or a stream, passes.

    Raises:
        InputError: It is a folder, links lead in a circle, or its folder is a file or read-only.
    """
    real = Path(os.path.realpath(target))
    if real.is_symlink() or real.is_dir():
        raise InputError(
            "this is a folder" if real.is_dir() else "links that lead in a circle",
            where=target,
            hint="Name a file",
        )
    if is_stream(real) or _DESCRIPTOR.fullmatch(os.fspath(target)):
        return
    parent = next(folder for folder in real.parents if os.path.lexists(folder))
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        state = "cannot be written to" if parent.is_dir() else "is not a folder"
        raise InputError(
            f"no file can be created here, because {parent} {state}",
            where=target,
            hint="Choose another location",
        )


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Returns whether a path is a pipe, terminal or other device: neither a file nor a folder."""
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
        InputError: The file is missing, or is not valid JSON in UTF-8.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", where=path) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON ({error})", where=path) from None


def read_json_lines(path: str | os.PathLike[str]) -> list[Any]:
    """Reads a JSON Lines file that is appended to, ignoring an incomplete last line.

    Returns:
        The values, oldest first; none if there is no such file.
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
