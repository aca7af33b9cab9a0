"""Memory that a long process has freed and still holds."""

from __future__ import annotations

import ctypes
import sys


def release_freed_memory() -> None:
    """Returns freed memory to the system, where the C library offers that (glibc does).

    It keeps what lies between blocks that are still in use, and a process that trains one model
    after another grows by what each has left.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
