"""Shared by tests of commands: runs `dsi` in two processes, as torchrun does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest


@pytest.fixture
def in_two_processes() -> Callable[[list[str]], str]:
    """Runs a command line in two processes, and returns what the first of them prints."""

    def run(words: list[str]) -> str:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = str(taken.getsockname()[1])

        def start(rank: int) -> subprocess.Popen[str]:
            ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            sizes = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
            where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
            return subprocess.Popen(
                [sys.executable, "-m", "dsi", *words],
                env={**os.environ, **ranks, **sizes, **where},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )

        told = []
        for process in [start(rank) for rank in range(2)]:
            out, err = process.communicate(timeout=800)
            assert process.returncode == 0, err
            told.append(out)
        assert not told[1], "the second process printed something"
        return told[0]

    return run
