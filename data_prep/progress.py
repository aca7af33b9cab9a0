"""Progress bars and notes, on standard error: standard output is reserved for results."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
_THREAD = threading.local()


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Shows no progress bars of this thread within the context: a server writes a log there."""
    before = getattr(_THREAD, "disabled", False)
    _THREAD.disabled = True
    try:
        yield
    finally:
        _THREAD.disabled = before


def shows_bars() -> bool:
    """Whether progress bars are shown: neither `--quiet` nor a server asks for none.

    Pass it to libraries that have bars of their own.
    """
    # tqdm reads this variable only when it is imported.
    if os.environ.get("TQDM_DISABLE", "0") not in ("", "0"):
        return False
    return not getattr(_THREAD, "disabled", False)


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yields `items` under a progress bar.

    Args:
        items: What to iterate over.
        description: A label, shown to the left of the bar.
        total: Number of items, if `items` has no length.
    """
    bar = tqdm(
        items,
        desc=description,
        total=total,
        file=sys.stderr,
        dynamic_ncols=True,
        disable=not shows_bars(),
    )
    return iter(bar)


def note(text: str) -> None:
    """Prints a note to the user on standard error, above any progress bar."""
    if os.environ.get("RANK", "0") == "0":  # one process of a `torchrun` says it for all
        tqdm.write(f"dsi: {text}.", file=sys.stderr)
