"""Runs a command or a script in several processes, as `torchrun` does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

LEAVE = """
from dsi.distributed.processes import leave
leave(0)
"""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def start(*words: str, count: int = 2, script: str | None = None) -> list[subprocess.Popen[str]]:
    """Starts processes as `torchrun` does, each with its rank in the environment.

    A script ends as the command does: a group of processes that still stands can abort one of them.
    """
    port = str(free_port())
    command = [sys.executable, *(["-c", script + LEAVE] if script else ["-m", "dsi"]), *words]
    return [
        subprocess.Popen(
            command,
            env={
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(count),
                "LOCAL_WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                "OMP_NUM_THREADS": "1",
                "TQDM_DISABLE": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def finish(
    processes: list[subprocess.Popen[str]], patience: float = 280
) -> list[tuple[int, str, str]]:
    """Waits for processes, so many seconds at most, and returns codes and outputs.

    All are read at once: one that says much waits for its reader, and the others for it.
    """

    def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
        try:
            out, err = process.communicate(timeout=patience)
        finally:
            process.kill()
        return process.returncode, out, err

    with ThreadPoolExecutor(len(processes)) as readers:
        return list(readers.map(end, processes))
