"""Locks on open files and folders, on systems that have them.

They serve where a lock file would not do: for a folder itself, and for temporary files that a later
process may take for leftovers. A lock ends when its descriptor is closed or its process ends.
"""

from __future__ import annotations

import errno
from types import ModuleType

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
        raise OSError(errno.ENOTSUP, "no locks on open files")
    _FCNTL.flock(descriptor, _FCNTL.LOCK_EX if wait else _FCNTL.LOCK_EX | _FCNTL.LOCK_NB)
