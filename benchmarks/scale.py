"""What does each stage cost at 20,000, 100,000 and 1,000,000 documents?

    python benchmarks/scale.py --texts PATH/TO/BEIR --sizes 20000,100000,1000000

A document is three sentences of the given texts, each drawn at random from all of them, under a
number of its own; queries are sentences with every other word left out. Each stage runs as a
command in a process of its own: `dsi prepare`, `dsi docids`, `dsi train` (the default index),
`dsi search` with 1,000 queries, `dsi update` with 1,000 documents, `dsi delete` of one; and a
training with a few steps of the network (`--steps`). Seconds are of the clock, memory is the peak
of the process. Cells in `results/scale.jsonl` are not measured again; with `--work FOLDER`, neither
are the stages that a stopped run has finished.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from record import cell, show

from data_prep.text_processing import sentences

STAGES = ("prepare", "docids", "train", "search", "update", "delete", "train steps")


def main() -> None:
    """Measures the sizes that are missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", required=True, type=Path, help="folder with corpus.jsonl")
    parser.add_argument("--sizes", default="20000,100000,1000000")
    parser.add_argument("--steps", type=int, default=3, help="of the network")
    parser.add_argument("--work", type=Path, help="where what is made is kept; default: nowhere")
    arguments = parser.parse_args()
    rows = []
    for size in map(int, arguments.sizes.split(",")):
        found = cell("scale", f"{size}documents", lambda size=size: _measure(arguments, size))
        for stage in STAGES:
            if stage in found["stages"]:
                rows.append({"documents": size, "stage": stage, **found["stages"][stage]})
    show(rows, ["documents", "stage", "seconds", "peak GiB", "index MiB"])


def _measure(arguments: argparse.Namespace, size: int) -> dict[str, Any]:
    pool = _sentences(arguments.texts)
    rng = random.Random(0)
    with _working_folder(arguments.work, size) as root:
        _write_documents(root / "documents.jsonl", pool, rng, range(size))
        _write_documents(root / "more.jsonl", pool, rng, range(size, size + 1000))
        _write_queries(root / "queries.tsv", pool, rng)
        dataset, index = str(root / "dataset"), str(root / "index")
        kinds, queries, run = (str(root / name) for name in ("docids", "queries.tsv", "run.trec"))
        few = ["--docids", kinds, "--generator", "extractive", "--per_doc", "1"]
        few += ["--loop.steps", str(arguments.steps), "--loop.batch", "8"]
        commands = {
            "prepare": ["prepare", str(root / "documents.jsonl"), "--out", dataset],
            "docids": ["docids", dataset, "--kind", "atomic", "--out", kinds],
            "train": ["train", dataset, "--out", index, "--docids", kinds],
            "search": ["search", index, "--queries", queries, "--k", "10", "--run", run],
            "update": ["update", index, str(root / "more.jsonl")],
            "delete": ["delete", index, "d7"],
            "train steps": ["train", dataset, "--out", f"{index}-steps", *few],
        }
        finished = root / "stages.json"
        found = json.loads(finished.read_text()) if finished.is_file() else {}
        for stage, words in commands.items():
            if stage in found:
                continue
            found[stage] = _run(words)
            if stage in ("train", "update"):
                found[stage]["index MiB"] = _size(root / "index") / 2**20
            print(size, stage, found[stage], file=sys.stderr, flush=True)
            finished.write_text(json.dumps(found))
    return {
        "settings": {"texts": arguments.texts.name, "steps": arguments.steps},
        "stages": found,
    }


@contextmanager
def _working_folder(work: Path | None, size: int) -> Iterator[Path]:
    """Yields the folder of one size: under `work`, or a temporary one."""
    if work is None:
        with TemporaryDirectory() as folder:
            yield Path(folder)
        return
    root = work / str(size)
    root.mkdir(parents=True, exist_ok=True)
    yield root


def _sentences(folder: Path) -> list[str]:
    with (folder / "corpus.jsonl").open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    return [sentence for text in texts for sentence in sentences(text) if len(sentence) > 20]


def _write_documents(file: Path, pool: list[str], rng: random.Random, numbers: range) -> None:
    with file.open("w", encoding="utf-8") as lines:
        for number in numbers:
            text = " ".join(rng.choice(pool) for _ in range(3))
            lines.write(json.dumps({"id": f"d{number}", "text": text}) + "\n")


def _write_queries(file: Path, pool: list[str], rng: random.Random) -> None:
    with file.open("w", encoding="utf-8") as lines:
        for number in range(1000):
            words = rng.choice(pool).split()[::2]
            lines.write(f"q{number}\t{' '.join(words)}\n")


def _run(words: list[str]) -> dict[str, float]:
    """Runs a command of ours; returns its seconds and the peak of its memory."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "dsi", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"dsi {' '.join(words)} failed:\n{said.decode()[-2000:]}")
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak GiB": usage.ru_maxrss / 2**20}


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    main()
