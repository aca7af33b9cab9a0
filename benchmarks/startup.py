"""What is spent before the first answer: processor time of commands, and of their imports.

Each command runs in a process of its own, several times; the least time of them counts, since
whatever else the machine does only adds to it. Imports are those of `python -X importtime`.

    python benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import record

WORDS = ("ink", "water", "light", "paper", "steam", "night")
_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \| +(\S+)")


def main() -> None:
    """Measures every command and records a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="runs of each command")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        import dsi

        dsi.build([{"id": word, "text": f"a text about {word}"} for word in WORDS], index)
        for name, words in {
            "import torch": ["-c", "import torch"],
            "import dsi": ["-c", "import dsi"],
            "dsi --help": ["-m", "dsi", "--help"],
            "dsi train --help": ["-m", "dsi", "train", "--help"],
            "dsi search": ["-m", "dsi", "search", str(index), "water"],
        }.items():
            row = record.cell("startup", name, lambda words=words: measured(words, arguments.runs))
            print(f"{name:<18} {row['processor seconds']:6.2f} s", row["imports"])


def measured(words: list[str], runs: int) -> dict:
    """Returns the least processor seconds of some runs, and the share of each package's imports."""
    seconds = min(processor_seconds(words) for _ in range(runs))
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words], capture_output=True, text=True, check=True
    )
    packages: dict[str, int] = {}
    for microseconds, module in _LINE.findall(done.stderr):
        package = module.partition(".")[0]
        packages[package] = packages.get(package, 0) + int(microseconds)
    total = max(1, sum(packages.values()))
    largest = sorted(packages, key=packages.__getitem__, reverse=True)[:5]
    return {
        "processor seconds": seconds,
        "runs": runs,
        "imports": {package: packages[package] / total for package in largest},
    }


def processor_seconds(words: list[str]) -> float:
    """Returns user and system time of one call of Python, on one thread."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *words],
        stdout=subprocess.DEVNULL,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
