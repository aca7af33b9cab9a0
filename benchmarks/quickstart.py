"""How long does `dsi quickstart` take, how much memory, and how well does its index rank?

    python benchmarks/quickstart.py

Runs the command as a user does, in a process of its own and a folder of its own. The result is
kept in `results/quickstart.jsonl`; remove its line to measure again.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from record import cell, show

MEASURES = ("Success@1", "Success@10", "RR@10", "nDCG@10")


def main() -> None:
    """Measures, unless it has been measured, and prints the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    result = cell("quickstart", "quickstart", _measure)
    rows = [
        {"system": name, **{m: groups["all"][m] for m in MEASURES}}
        for name, groups in result["systems"].items()
    ]
    show(rows, ["system", *MEASURES])
    print(f"minutes {result['minutes']:.1f}, peak memory {result['peak memory GiB']:.1f} GiB")


def _measure() -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "dsi", "quickstart", "--json", "--out", f"{folder}/q"]
        started = time.perf_counter()
        done = subprocess.run(words, stdout=subprocess.PIPE, check=True)
        minutes = (time.perf_counter() - started) / 60
        corpus = json.loads((Path(folder) / "q/dataset/dataset.json").read_text("utf-8"))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    counts = {"documents": corpus["documents"], "content hash": corpus["content_hash"]}
    return {"minutes": minutes, "peak memory GiB": peak, **counts, **json.loads(done.stdout)}


if __name__ == "__main__":
    main()
