"""Processes of one job: one of them writes the files, and errors reach all of them."""

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
"""Timeout of the process group; the first process may have a large corpus to prepare."""


class Processes:
    """The processes started by one `torchrun`, or a single process.

    An exception in one process inside a method is raised in all of them, so that none waits for a
    process that has exited. All processes must call the same methods in the same order.

    Attributes:
        rank: Rank of this process, from 0.
        count: Number of processes.
    """

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        if self.count > 1:
            import torch
            from accelerate import PartialState

            PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
            # A live process group can abort the process while Python shuts down.
            atexit.register(_destroy_process_group)

    def together(self, work: Callable[[], T]) -> T:
        """Runs `work` in all processes at once, and returns when all are done."""
        return self._run_in_turn(work, True)[0]

    def in_main_process(self, work: Callable[[], T]) -> T | None:
        """Runs `work` in the first process while the others wait.

        Returns:
            The result of `work`; None in the other processes.
        """
        results = self._run_in_turn(work, self.rank == 0)
        return results[0] if results else None

    def main_process_first(self, work: Callable[[], T]) -> T:
        """Runs `work` in the first process, then in the others, which find most of it done."""
        return (self._run_in_turn(work, self.rank == 0) + self._run_in_turn(work, self.rank > 0))[0]

    def gathered(self, entries: list[T]) -> list[T]:
        """Returns the entries of all processes, in the order of their ranks, in every process."""
        if self.count == 1:
            return entries
        from accelerate.utils import gather_object

        return list(gather_object(entries))

    def _run_in_turn(self, work: Callable[[], T], mine: bool) -> list[T]:
        """Runs `work` if it is this process's turn, and shares the outcome with all processes."""
        results: list[T] = []
        error: Exception | None = None
        if mine:
            try:
                results.append(work())
            except Exception as raised:
                error = raised
        if self.count > 1:
            from accelerate.utils import gather_object

            failure = None if error is None else (isinstance(error, InputError), str(error))
            failures = [entry for entry in gather_object([failure]) if entry is not None]
            if failures and error is None:
                ours, message = failures[0]
                raise InputError(message) if ours else RuntimeError(message)
        if error is not None:
            raise error
        return results


def refuse_several(verb: str, hint: str) -> None:
    """Refuses to run a command in the several processes of `torchrun`.

    Args:
        verb: The command.
        hint: What to run instead.

    Raises:
        InputError: This is one of several processes.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError(f"dsi {verb} runs in one process", hint=hint)


def leave(code: int) -> None:
    """Exits one of several processes with an exit code; returns if there is only one.

    A normal exit of Python would wait for gloo threads. A failed peer can make these abort the
    process, which would lose the exit code.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    _destroy_process_group()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _destroy_process_group() -> None:
    """Destroys the process group, if there is one."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_initialized():
        distributed.destroy_process_group()
