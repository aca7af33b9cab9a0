"""What every benchmark shares: cells that are measured once, with the machine they ran on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Python looks in this folder first, where `docids.py` is a benchmark, not the package of that name,
# and asks the hook of an editable installation last. The packages of this checkout are measured.
if Path(sys.path[0]) == Path(__file__).parent:
    sys.path.append(sys.path[0])
    sys.path[0] = str(Path(__file__).parents[1])

from data_prep.files import read_json, write_json

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Returns what the figures depend on besides the code."""
    import torch

    processor = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next((x.split(":")[1].strip() for x in lines if "model name" in x), processor)
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "numpy", "dsi-toolkit")},
    }


def commit() -> str:
    """Returns the commit that is checked out, with a plus sign where files have changed since."""

    def git(*words: str) -> str:
        done = subprocess.run(("git", *words), capture_output=True, text=True, cwd=RESULTS.parent)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "..", ":!results")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def cell(benchmark: str, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns a cell of a benchmark's grid: from the results folder, or measured and kept there.

    A result with an entry `void` says why it must not be used; it is measured again.

    Args:
        benchmark: Folder under `benchmarks/results/`.
        name: Of the cell; every parameter that matters is in it.
        measure: Called where there is no result yet.
    """
    file = RESULTS / benchmark / f"{name}.json"
    if file.is_file() and "void" not in (kept := read_json(file)):
        return kept
    before = commit()
    value = {"cell": name, **measure(), "machine": machine(), "commit": before}
    write_json(file, value)
    return value


def show(rows: list[dict[str, Any]], columns: list[str]) -> None:
    """Prints rows as a Markdown table, then all of them as one line of JSON."""
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        cells = [row.get(column, "") for column in columns]
        print("| " + " | ".join(f"{c:.4f}" if isinstance(c, float) else str(c) for c in cells), "|")
    print(json.dumps(rows))
