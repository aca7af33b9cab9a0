"""A pipe is read once, but can be opened as often as a file."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from data_prep.sources import SourceOptions, detect
from data_prep.sources.judged import read_qrels, read_queries
from data_prep.splits import SplitSource
from data_prep.standard_input import open_input

LINES = 20_000
"""More than the capacity of a pipe and a buffer."""


@pytest.fixture
def piped(tmp_path):
    """Gives content as a named pipe that is written once."""
    writers = []

    def pipe(name: str, content: str) -> Path:
        path = tmp_path / name
        os.mkfifo(path)
        writers.append(threading.Thread(target=path.write_text, args=(content,), daemon=True))
        writers[-1].start()
        return path

    yield pipe
    for writer in writers:
        writer.join(timeout=30)


def test_two_readers_in_turn_each_get_all_of_a_pipe(piped):
    content = "".join(f"line {n}\n" for n in range(LINES))
    pipe = piped("pipe", content)
    with open_input(pipe) as one, open_input(pipe) as two:
        began = one.readline()
        assert two.read().decode() == content
        assert (began + one.read()).decode() == content
    with open_input(pipe) as again:
        assert again.read().decode() == content


def test_queries_and_judgments_of_a_pipe_are_all_read(piped):
    queries = piped("queries", "".join(f"q{n}\tword{n}\n" for n in range(LINES)))
    found = [query.query_id for query in read_queries(queries, SourceOptions())]
    assert found == [f"q{n}" for n in range(LINES)]
    qrels = piped("qrels", "".join(f"q{n} 0 d{n} 1\n" for n in range(LINES)))
    for _ in range(2):
        assert [qrel.doc_id for qrel in read_qrels(qrels, "test")] == [
            f"d{n}" for n in range(LINES)
        ]


def test_a_source_whose_judgments_are_split_reads_a_pipe_more_than_once(piped, tmp_path):
    documents = tmp_path / "documents.jsonl"
    documents.write_text("".join(f'{{"id": "d{n}", "text": "t{n}"}}\n' for n in range(100)))
    options = SourceOptions(
        queries=str(piped("queries", "".join(f"q{n}\tword{n}\n" for n in range(100)))),
        train_qrels=str(piped("qrels", "".join(f"q{n} 0 d{n} 1\n" for n in range(100)))),
    )
    source = SplitSource(detect(str(documents), options), dev_fraction=0.2, test_fraction=0, seed=0)
    assert write_dataset(tmp_path / "ds", source).info.qrels == {"train": 80, "dev": 20}


def test_iterators_in_memory_are_read_more_than_once(tmp_path):
    source = InMemorySource(
        (Document(f"d{n}", "", f"t{n}") for n in range(10)),
        (Query(f"q{n}", f"word{n}") for n in range(10)),
        (Qrel(f"q{n}", f"d{n}", 1, "train") for n in range(10)),
    )
    split = SplitSource(source, dev_fraction=0.2, test_fraction=0, seed=0)
    assert write_dataset(tmp_path / "ds", split).info.qrels == {"train": 8, "dev": 2}


DASH = """
from pathlib import Path
from data_prep.files import writing
from data_prep.sources import SourceOptions
from data_prep.sources.judged import read_queries
with writing("-") as file:
    for query in read_queries(Path("-"), SourceOptions()):
        file.write(f"{query.text} {query.query_id}\\n")
"""


@pytest.mark.parametrize("there", [False, True])
def test_a_dash_is_standard_input_and_output_unless_there_is_such_a_file(tmp_path, there):
    if there:
        (tmp_path / "-").write_text("q2\tferret\n")
    done = subprocess.run(
        [sys.executable, "-c", DASH],
        input="q1\totter\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == ("ferret q2\n" if there else "otter q1\n"), done.stderr
