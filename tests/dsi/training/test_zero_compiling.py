"""DeepSpeed compilation: a process killed while compiling does not block later ones."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("deepspeed")

START = """
import os

from dsi.distributed.deepspeed import start_deepspeed

start_deepspeed()
print(os.environ["TORCH_EXTENSIONS_DIR"])
"""


def start(timeout: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", START], capture_output=True, text=True, timeout=timeout, check=True
    )
    return done.stdout.strip().splitlines()[-1]


def test_the_mark_of_a_killed_compilation_is_not_waited_for(monkeypatch):
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    folder = Path(start(timeout=280))
    [built] = [entry for entry in folder.iterdir() if entry.is_dir()]
    mark = built / "lock"
    mark.touch()
    assert Path(start(timeout=120)) == folder
    assert not mark.exists()
