"""Progress bars: always on standard error, so that standard output stays a program's to read."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yields `items` under a progress bar.

    Args:
        items: What to iterate over.
        description: A few words, shown left of the bar.
        total: How many items there are, where `items` has no length.
    """
    return iter(tqdm(items, desc=description, total=total, file=sys.stderr, dynamic_ncols=True))
