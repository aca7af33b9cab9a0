"""Turns failures of a training step into one-line errors that say what to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from data_prep.errors import InputError

_NO_MEMORY = ("can't allocate memory", "out of memory", "not enough memory")
_NO_PEER = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "socket timeout",
    "timed out waiting",
    "nccl communicator was aborted",
    "remote process exited",
)


class LostProcessError(RuntimeError):
    """Another process of the run has exited, and this one cannot continue without it."""


@contextmanager
def translate_errors(folder: Path, step: int) -> Iterator[None]:
    """Turns failures that can hit any step into errors that say how to continue.

    Args:
        folder: Folder of the run.
        step: Number of the step, from 1.

    Raises:
        InputError: Out of memory.
        LostProcessError: Another process has exited.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
            sign in text for sign in _NO_MEMORY
        ):
            raise InputError(
                f"out of memory in step {step}",
                where=folder,
                hint="Raise --loop.accumulation (2, 4, ...: the same step in smaller parts) or "
                "use --loop.gradient_checkpointing true. The last checkpoint is kept, but other "
                "options need a new run (another --out)",
            ) from error
        if any(sign in text for sign in _NO_PEER):
            raise LostProcessError(
                f"{folder}: another process of this run ended during step {step}. Fix the error "
                "that it printed and run the same command again; it resumes from the last "
                "checkpoint"
            ) from error
        raise
