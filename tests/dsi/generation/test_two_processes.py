"""Two processes under torchrun write the same pseudo-queries as one, byte for byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from two_processes import finish, start

SCRIPT = """
import sys
import dsi.generation
from data_prep.generators import GENERATORS
from dsi.cli import main

for name in GENERATORS:
    GENERATORS[name].shard_documents = 8
assert main(["queries", *sys.argv[1:]]) == 0
"""
"""Runs `dsi queries` with small shards, so that two processes have several to share."""
TRAINING = "--train-generator --memory.width 64 --memory.layers 1 --memory.vocabulary 100"
TRAINING += " --memory.steps 4 --memory.pairs 8 --memory.query_length 6"


def run(processes: int, dataset: Path, words: list[str]) -> dict[str, bytes]:
    """Runs the command and returns what is in the generator's folder."""
    for code, _, err in finish(start(str(dataset), *words, count=processes, script=SCRIPT)):
        assert code == 0, err
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
    one, two = run(1, dataset.path, words), run(2, other, words)
    assert len([name for name in one if name.startswith("shard-")]) == 8
    assert two == one
