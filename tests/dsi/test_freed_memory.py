"""A process that has freed memory can return it to the system."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
from pathlib import Path
from dsi.freed_memory import release_freed_memory
def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 2**20
blocks = [bytearray(100_000) for _ in range(2000)]
kept = blocks[-1:]
blocks.clear()
before = held()
release_freed_memory()
print(before - held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library offers no trimming")
def test_freed_blocks_below_one_in_use_go_back():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    assert int(done.stdout) > 100, "of 191 MiB"
