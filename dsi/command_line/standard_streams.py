"""Standard output and its failures: a closed pipe, a full disk, a closed stream."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class StandardOutputError(Exception):
    """Standard output cannot be written to. `__str__` is the system's own reason."""


def open_closed_streams() -> None:
    """Reopens standard streams that the caller has closed on the null device.

    Otherwise the next opened file would get the descriptor of one of them, and with it all printed
    output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Flushes standard output after the block, and tells its errors from those of other files.

    After an error the remaining buffer is dropped, so that Python's final flush at exit does not
    fail.

    Raises:
        BrokenPipeError: The reader closed the pipe.
        StandardOutputError: Nothing more can be written.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        drop_standard_output()
        raise
    except OSError as error:
        drop_standard_output()
        raise StandardOutputError(os.strerror(error.errno or 0).lower()) from None


def drop_standard_output() -> None:
    """Redirects further and still buffered output to the null device."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def console() -> Console:
    """Returns the console for human-readable output.

    Unless a terminal or the environment (`COLUMNS`) defines a width, long lines are better than
    wrapped ones.
    """
    from rich.console import Console

    class Plain(Console):
        """Leaves a closed pipe to the caller, where rich would end the process."""

        def on_broken_pipe(self) -> None:
            raise

    width_known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Plain(width=None if width_known else 160, emoji=False)
