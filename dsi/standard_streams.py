"""Standard output and its failures: a reader that went away, a full disk, a closed stream."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class StandardOutputError(Exception):
    """Standard output takes no more. Its `__str__` is the system's own reason."""


def open_closed_streams() -> None:
    """Opens standard streams that the caller has closed on the null device.

    Otherwise the next file that is opened gets the number of one of them, and with it whatever is
    printed there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Flushes standard output after the block, and tells its errors from those of other files.

    After an error whatever is still buffered is dropped, so that Python, which flushes standard
    output once more at exit, does not fail there.

    Raises:
        BrokenPipeError: The reader went away.
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
    """Sends what is printed from now on, and what is still buffered, to the null device."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def console() -> Console:
    """Returns what prints for people on standard output.

    Unless a terminal or the environment (`COLUMNS`) says how wide it is, a long line is better than
    a folded one.
    """
    from rich.console import Console

    class Plain(Console):
        """Leaves a reader that went away to the caller, where rich ends the process."""

        def on_broken_pipe(self) -> None:
            raise

    told = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Plain(width=None if told else 160, emoji=False)
