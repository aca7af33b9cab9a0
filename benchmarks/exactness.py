"""Does the search ever differ from its definition in loops?

    python benchmarks/exactness.py --cases 10000

Each case is a tiny random model (T5, mT5, BART, mBART, or BERT as encoder and decoder), random
identifiers, queries and options: score, beams, k, a part of the documents, wider first levels,
diverse starts, look-ahead. The definition is in plain Python, over the log-probabilities that the
model gives by teacher forcing. Blocks of 1,000 cases are cells of their own.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from record import cell, show

BLOCK = 1000
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "dsi" / "search"))


def main() -> None:
    """Tries the blocks that are missing and prints the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--block", type=int, default=BLOCK, help="cases of a cell")
    arguments = parser.parse_args()
    cases = arguments.cases
    rows = []
    for start in range(0, cases, arguments.block):
        seeds = range(start, min(start + arguments.block, cases))
        name = f"cases-{seeds.start}-{seeds.stop}"
        rows.append(cell("exactness", name, lambda seeds=seeds: _measure(seeds)))
    total = {
        "cell": "all",
        "cases": sum(row["cases"] for row in rows),
        "differ": sum(row["differ"] for row in rows),
    }
    show([*rows, total], ["cell", "cases", "differ"])


def _measure(seeds: range) -> dict[str, Any]:
    from search_oracles import difference, random_case

    from dsi.search.beam import beam_search

    started = time.perf_counter()
    differing = {}
    for seed in seeds:
        case = random_case(seed)
        words = difference(case, *beam_search(**case.arguments))
        if words:
            differing[seed] = words
    return {
        "cases": len(seeds),
        "differ": len(differing),
        "differing": differing,
        "seconds": time.perf_counter() - started,
    }


if __name__ == "__main__":
    main()
