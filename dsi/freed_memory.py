"""Memory that a long-running process has freed but still holds."""

from __future__ import annotations

import ctypes
import sys


def release_freed_memory() -> None:
    """Returns freed memory to the system, if the C library supports that (glibc does).

    The library keeps free memory between blocks in use, and a process that trains one model after
    another would grow with each of them.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
