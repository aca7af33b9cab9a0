"""Runs a command or a script in several processes, as `torchrun` does."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import small

LEAVE = """
from dsi.distributed.processes import leave
leave(0)
"""


class Forked:
    """A process that is forked, and so has imported all libraries already.

    Args:
        words: The arguments of the command `dsi`.
        environment: Variables that the process sets.
        script: Python code to run in place of the command.
    """

    def __init__(
        self, words: Sequence[str], environment: dict[str, str], script: str | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._process = small.context().Process(
            target=run, args=(words, environment, self._folder.name, script)
        )
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, *, timeout: float) -> tuple[str, str]:
        self._process.join(timeout)
        out, err = (Path(self._folder.name, name).read_text() for name in ("out", "err"))
        if self._process.is_alive():
            raise TimeoutError(out + err)
        return out, err


def run(words: Sequence[str], environment: dict[str, str], folder: str, script: str | None) -> None:
    """Runs `dsi`, or a script, with its output in the files `out` and `err` of a folder."""
    import torch

    os.environ.update(environment)
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    for number, name in enumerate(("out", "err"), 1):
        with open(Path(folder, name), "w") as file:
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    sys.argv = ["dsi", *words]
    if script is not None:
        exec(script + LEAVE, {"__name__": "__main__"})
        return
    from dsi.__main__ import run as run_command

    run_command()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def start(*words: str, count: int = 2, script: str | None = None) -> list[Forked]:
    """Starts processes as `torchrun` does, each with its rank in the environment.

    A script ends as the command does: a group of processes that still stands can abort one of them.
    """
    port = str(free_port())
    environments = [
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": "1",
            "TQDM_DISABLE": "1",
        }
        for rank in range(count)
    ]
    return [Forked(words, environment, script) for environment in environments]


def finish(processes: Sequence[Forked], patience: float = 280) -> list[tuple[int, str, str]]:
    """Waits for processes, so many seconds at most, and returns codes and outputs.

    All are read at once: one that says much waits for its reader, and the others for it.
    """

    def end(process: Forked) -> tuple[int, str, str]:
        try:
            out, err = process.communicate(timeout=patience)
        finally:
            process.kill()
        assert process.returncode is not None
        return process.returncode, out, err

    with ThreadPoolExecutor(len(processes)) as readers:
        return list(readers.map(end, processes))
