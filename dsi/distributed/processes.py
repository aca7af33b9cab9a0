"""Several processes on one job: one of them writes the files, and all of them hear of an error."""

from __future__ import annotations

import atexit
import contextlib
import datetime
import os
import sys
from collections.abc import Callable
from typing import TypeVar

from data_prep.errors import InputError

T = TypeVar("T")

_PATIENCE = datetime.timedelta(days=1)
"""How long processes wait for each other; the first may have a large corpus to prepare."""


class Processes:
    """The processes of one `torchrun`; a process that was started alone is all of them.

    What one process raises inside a method, every process raises: none waits for one that is
    gone. All processes must call the same methods in the same order.

    Attributes:
        rank: Which one this is, from 0.
        count: How many there are.
    """

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        if self.count > 1:
            import torch
            from accelerate import PartialState

            PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
            # A group that still stands can abort the process while Python ends.
            atexit.register(_dissolve)

    def together(self, work: Callable[[], T]) -> T:
        """Does `work` in every process at once, and returns when all have done it."""
        return self._share(work, True)[0]

    def first_alone(self, work: Callable[[], T]) -> T | None:
        """Does `work` in the first process, while the others wait.

        Returns:
            What it returned; None in the other processes.
        """
        done = self._share(work, self.rank == 0)
        return done[0] if done else None

    def first_before_others(self, work: Callable[[], T]) -> T:
        """Does `work` in the first process, then, where much of it is done, in the others."""
        return (self._share(work, self.rank == 0) + self._share(work, self.rank > 0))[0]

    def gathered(self, entries: list[T]) -> list[T]:
        """Returns the entries of all processes, in the order of their ranks, in every process."""
        if self.count == 1:
            return entries
        from accelerate.utils import gather_object

        return list(gather_object(entries))

    def _share(self, work: Callable[[], T], mine: bool) -> list[T]:
        """Does `work` where it is this process's, and tells every process how that ended."""
        done: list[T] = []
        error: Exception | None = None
        if mine:
            try:
                done.append(work())
            except Exception as raised:
                error = raised
        if self.count > 1:
            from accelerate.utils import gather_object

            told = None if error is None else (isinstance(error, InputError), str(error))
            failures = [entry for entry in gather_object([told]) if entry is not None]
            if failures and error is None:
                ours, message = failures[0]
                raise InputError(message) if ours else RuntimeError(message)
        if error is not None:
            raise error
        return done


def leave(code: int) -> None:
    """Ends a process of several with an exit code; returns where there is only one.

    Python's own way out would wait for threads of gloo, some of which a failed peer can make
    abort the process meanwhile, and the exit code would be lost.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    _dissolve()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _dissolve() -> None:
    """Takes the process group down, if there is one."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_initialized():
        distributed.destroy_process_group()
