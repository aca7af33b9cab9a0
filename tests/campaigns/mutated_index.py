"""Mutates an index N times and opens, searches or changes the result; prints counts.

    python tests/campaigns/mutated_index.py INDEX --mutations 1000 --seed 0

A mutation flips a bit, truncates a file, puts junk into it, removes it, or replaces it with a link
or a named pipe. An outcome is `refused` (exit code 2 and one line), `same` (the answers of the
original index), `wrong` (other answers, without an error) or `failed` (anything else). Only the
first two are acceptable, without changes outside the folder. Run by hand; a few mutations are in
the tests.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import record

from dsi import cli

KINDS = ("bit", "cut", "junk", "gone", "link", "pipe")


def mutate(index: Path, outside: Path, rng: random.Random) -> str:
    """Changes one file of an index; returns what was done."""
    files = sorted(file for file in index.rglob("*") if file.is_file() and file.name != "lock")
    file, kind = rng.choice(files), rng.choice(KINDS)
    content = bytearray(file.read_bytes())
    file.unlink()
    place = rng.randrange(max(len(content), 1))
    if kind == "bit" and content:
        content[place] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del content[place:]
    elif kind == "junk":
        content[place : place + 64] = rng.randbytes(64)
    if kind in ("bit", "cut", "junk"):
        file.write_bytes(bytes(content))
    elif kind == "link":
        file.symlink_to(outside)
    elif kind == "pipe":
        os.mkfifo(file)
    return f"{kind} {file.relative_to(index)}"


def answers(words: Sequence[str]) -> tuple[int, str, str]:
    """Runs a command; returns its exit code, its results and what it says."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([*words, "--json", "--quiet"])
    told = json.loads(out.getvalue()) if code == 0 else {}
    return code, json.dumps(told.get("results", told.get("live"))), err.getvalue()


def campaign(
    index: Path,
    queries: Sequence[str],
    mutations: int,
    seed: int,
    say: Callable[[str], None] = print,
) -> Counter[str]:
    """Mutates copies of an index.

    Args:
        index: The index, which is left alone.
        queries: What is searched for.
        mutations: How many.
        seed: Same index and seed, same mutations.
        say: Is told of each that is wrong or failed.

    Returns:
        Outcome -> how often.
    """
    rng, counts = random.Random(seed), Counter[str]()
    whole = answers(["search", str(index), *queries])[1]
    for number in range(mutations):
        with tempfile.TemporaryDirectory() as folder:
            copy, outside = Path(folder) / "index", Path(folder) / "outside"
            shutil.copytree(index, copy)
            outside.write_text("precious")
            done = mutate(copy, outside, rng)
            code, found, said = answers(["search", str(copy), *queries])
            if code == 0:
                outcome = "same" if found == whole else "wrong"
            else:
                outcome = "refused" if code == 2 and said.count("\n") == 1 else "failed"
            if outside.read_text() != "precious":
                outcome = "failed"
        counts[outcome] += 1
        if outcome in ("wrong", "failed"):
            say(f"{number}: {outcome}: {done}: {code} {said[:200]}")
    return counts


def main() -> None:
    """Runs a campaign from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("--queries", nargs="+", default=["zebra"])
    parser.add_argument("--mutations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="add the counts to the record")
    asked = parser.parse_args()
    counts = campaign(asked.index, asked.queries, asked.mutations, asked.seed)
    print(json.dumps(dict(sorted(counts.items()))))
    if asked.record:
        figures = {"settings": {"seed": asked.seed}, **counts}
        record.write_measured("reliability", "mutated index", figures)


if __name__ == "__main__":
    main()
