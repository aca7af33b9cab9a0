"""Locks on open files and folders, where the operating system supports them.

They are used where a lock file is not an option: for a folder itself, and for temporary files that
a later process might mistake for leftovers. A lock ends when its descriptor is closed or its
process ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from data_prep.errors import InputError

_FCNTL: ModuleType | None
try:
    import fcntl as _FCNTL
except ImportError:  # Windows
    _FCNTL = None


def lock_descriptor(descriptor: int, *, wait: bool) -> None:
    """Locks an open file or folder for this process alone.

    Args:
        descriptor: Of the file or folder.
        wait: Whether to wait for another process that holds the lock.

    Raises:
        BlockingIOError: Another process holds the lock, and `wait` is false.
        OSError: The file system or the operating system has no such locks.
    """
    if _FCNTL is None:
        raise OSError(errno.ENOTSUP, "the file system does not support locks on open files")
    _FCNTL.flock(descriptor, _FCNTL.LOCK_EX if wait else _FCNTL.LOCK_EX | _FCNTL.LOCK_NB)


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Locks a folder itself while the block runs; does nothing if folders cannot be locked.

    They cannot on NFS and Windows.

    Args:
        folder: An existing folder.

    Raises:
        BlockingIOError: Another process holds the lock, or has removed the folder.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        raise BlockingIOError from None
    try:
        try:
            lock_descriptor(descriptor, wait=False)
        except BlockingIOError:
            raise
        except OSError:
            pass
        if not os.fstat(descriptor).st_nlink:
            raise BlockingIOError
        yield
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Creates a folder that a user named, with its parents; a link to no folder gets its target.

    Raises:
        InputError: Links lead in a circle, or the file system creates nothing there.
        OSError: It cannot be created, or is a file.
    """
    real = Path(os.path.realpath(folder))
    if real.is_symlink():
        raise InputError("links that lead in a circle", where=folder, hint="Choose another folder")
    try:
        real.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:
        raise nothing_here(folder) from None


def nothing_here(target: Path) -> InputError:
    """Returns the error for a file system that reports a missing file, as that of /proc does."""
    return InputError("nothing can be created here", where=target, hint="Choose another location")


@contextlib.contextmanager
def only_writer(folder: Path, where: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Gives the caller exclusive write access to a folder while the block runs.

    It protects folders in which a command stores its progress, so that it can be resumed. The
    folder is created, and one that is empty after all is removed.

    Args:
        folder: The folder.
        where: What the message names; None for the folder.

    Raises:
        InputError: Another process is writing to it.
    """
    created = not folder.exists()
    make_folder(folder)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(folder_lock(folder))
        except BlockingIOError:
            raise InputError(
                "another command is writing here",
                where=where or folder,
                hint="Wait until it ends, or stop it, and run this again",
            ) from None
        try:
            yield
        finally:
            if created:
                with contextlib.suppress(OSError):
                    Path(os.path.realpath(folder)).rmdir()
