"""Two processes under torchrun write the same pseudo-queries as one, byte for byte."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("queries_on_two.py")
TRAINING = "--train-generator --memory.width 64 --memory.layers 1 --memory.vocabulary 100"
TRAINING += " --memory.steps 4 --memory.pairs 8 --memory.query_length 6"


def run(launcher: list[str], dataset: Path, words: list[str]) -> dict[str, bytes]:
    """Runs the command and returns what is in the generator's folder."""
    done = subprocess.run(
        [*launcher, str(SCRIPT), str(dataset), *words],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"},
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    [folder] = (dataset / "pseudo").iterdir()
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize(
    "generator",
    [
        pytest.param("seq2seq", marks=pytest.mark.slow),
        "memory",
        pytest.param("extractive", marks=pytest.mark.slow),
        "selective",
    ],
)
def test_two_processes_write_what_one_writes(generator, dataset, encoder_decoder, tmp_path):
    words = ["--per-doc", "2", "--round-trip", "0"]
    if generator == "seq2seq":
        words += ["--generator", "seq2seq", "--seq2seq.model", str(encoder_decoder)]
    elif generator == "memory":
        words += TRAINING.split()
    else:
        words += ["--generator", generator]
    other = Path(shutil.copytree(dataset.path, tmp_path / "other"))
    one = run([sys.executable], dataset.path, words)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    two = run([*torchrun, "--nproc_per_node", "2"], other, words)
    assert len([name for name in one if name.startswith("shard-")]) == 8
    assert two == one
