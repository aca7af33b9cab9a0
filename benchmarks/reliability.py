"""Runs the campaigns of tests/campaigns/ at their full counts, and records what they count.

    python benchmarks/reliability.py STATE INDEX

Kills and malformed input continue from the files in the folder STATE when run again. INDEX is the
index whose copies are mutated.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

CAMPAIGNS = Path(__file__).parents[1] / "tests" / "campaigns"


def main() -> int:
    """Runs them one after another; returns 1 where one found a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("state", type=Path)
    parser.add_argument("index", type=Path)
    asked = parser.parse_args()
    asked.state.mkdir(parents=True, exist_ok=True)
    found = 0
    for script, words in (
        ("malformed_input", ["--state", str(asked.state / "mutations.jsonl")]),
        ("mutated_index", [str(asked.index)]),
        ("kills", ["--state", str(asked.state / "kills.jsonl")]),
    ):
        line = [sys.executable, str(CAMPAIGNS / f"{script}.py"), *words, "--record"]
        found |= subprocess.run(line).returncode
    return found


if __name__ == "__main__":
    sys.exit(main())
