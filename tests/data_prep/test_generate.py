"""Generation can be killed, parallelized and repeated, and always gives the same pseudo-queries."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep import generate
from data_prep.dataset import Dataset, Document, InMemorySource
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from data_prep.files import read_json
from data_prep.generate import generate_queries
from data_prep.generators.extractive import Extractive, ExtractiveOptions


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "SHARD_DOCUMENTS", 4)
    documents = [
        Document(f"d{n}", f"Title {n}", f"Otter {n} swims in river {n} every morning at dawn.")
        for n in range(18)
    ]
    return write_dataset(tmp_path / "set", InMemorySource(documents))


def rows(dataset):
    return Dataset.open(dataset.path).pseudo_queries("extractive").to_list()


def test_every_document_has_distinct_queries_with_their_origin(dataset):
    outcome = generate_queries(dataset, "extractive", ExtractiveOptions(per_doc=6))
    assert (outcome.complete, outcome.shards, outcome.written) == (True, 5, 5)
    table = rows(dataset)
    assert outcome.queries == len(table) == 18 * 6
    assert {row["doc_id"] for row in table} == set(dataset.doc_ids)
    assert {row["origin"] for row in table} == {"extractive"}
    assert len({row["query_id"] for row in table}) == len(table)
    assert len({(row["doc_id"], row["text"]) for row in table}) == len(table)
    assert len(Dataset.open(dataset.path).pseudo_queries()) == len(table)


def test_provenance_says_what_decided_the_queries(dataset):
    generate_queries(dataset, "extractive", ExtractiveOptions(per_doc=2, seed=9))
    written = read_json(dataset.path / "pseudo" / "extractive" / "generator.json")
    assert written["options"]["seed"] == 9
    assert written["content_hash"] == dataset.info.content_hash
    assert sorted(p.name for p in (dataset.path / "pseudo").iterdir()) == ["extractive"]


def test_the_same_options_again_do_nothing(dataset, monkeypatch):
    first = generate_queries(dataset)
    monkeypatch.setattr(Extractive, "generate", None)
    again = generate_queries(dataset)
    assert (again.written, again.queries, again.complete) == (0, first.queries, True)


def test_other_options_replace(dataset):
    generate_queries(dataset, "extractive", ExtractiveOptions(per_doc=2))
    generate_queries(dataset, "extractive", ExtractiveOptions(per_doc=3))
    assert len(rows(dataset)) == 18 * 3


def test_replaced_queries_are_noted_with_the_options_that_differ(dataset, capsys):
    generate_queries(dataset, "extractive", ExtractiveOptions(per_doc=2, seed=9))
    assert "replacing" not in capsys.readouterr().err
    generate_queries(dataset, "extractive", ExtractiveOptions(per_doc=3, seed=9))
    told = "replacing the pseudo-queries of extractive, which were generated with per_doc 2.\n"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("killed_at", [0, 3, 4, 11, 17])
def test_a_kill_loses_a_shard_at_most_and_changes_nothing(dataset, monkeypatch, killed_at):
    generate_queries(dataset)
    expected = rows(dataset)
    generate_queries(dataset, "extractive", ExtractiveOptions(per_doc=1))
    usable = rows(dataset)
    original = Extractive.generate

    def dying(self, document):
        if document.doc_id == f"d{killed_at}":
            raise KeyboardInterrupt
        return original(self, document)

    monkeypatch.setattr(Extractive, "generate", dying)
    with pytest.raises(KeyboardInterrupt):
        generate_queries(dataset)
    assert rows(dataset) == usable
    monkeypatch.setattr(Extractive, "generate", original)
    assert generate_queries(dataset).written == 5 - killed_at // 4
    assert rows(dataset) == expected


def in_a_process(dataset, event=0):
    """Generates in a process of its own, which dies before that event."""
    words = [sys.executable, str(Path(__file__).with_name("generating_child.py"))]
    return subprocess.run(
        [*words, str(dataset.path), str(event)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TQDM_DISABLE": "1"},
    )


def written_files(dataset):
    """What the generator's folder holds, byte for byte."""
    folder = dataset.path / "pseudo" / "extractive"
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_process_killed_at_random_loses_and_repeats_nothing(dataset):
    alone = in_a_process(dataset)
    assert alone.returncode == 0, alone.stderr
    expected, events = written_files(dataset), int(alone.stdout)
    queries = rows(dataset)
    assert len({row["query_id"] for row in queries}) == len(queries) == 18 * 20
    places = np.random.default_rng(5).integers(1, events + 1, 3)
    for event in [*places.tolist(), events - 1]:
        shutil.rmtree(dataset.path / "pseudo")
        assert in_a_process(dataset, event).returncode == -9
        finished = len(list(dataset.path.glob("pseudo/extractive*/**/shard-*.arrow")))
        assert generate_queries(dataset).written == 5 - finished
        assert written_files(dataset) == expected, event
        assert [entry.name for entry in (dataset.path / "pseudo").iterdir()] == ["extractive"]


def test_a_kill_between_the_renames_is_mended(dataset):
    generate_queries(dataset)
    expected = rows(dataset)
    pseudo = dataset.path / "pseudo"
    # The state after a kill between moving the old folder aside and moving the new one in.
    (pseudo / "extractive.partial").mkdir()
    key = read_json(pseudo / "extractive" / "state.json")["_fingerprint"]
    (pseudo / "extractive").rename(pseudo / "extractive.partial" / key)
    (pseudo / ".extractive.old-x").mkdir()
    assert generate_queries(dataset).written == 0
    assert rows(dataset) == expected
    assert [p.name for p in pseudo.iterdir()] == ["extractive"]


@pytest.mark.parametrize("world", [2, 3, 7])
def test_any_number_of_processes_gives_the_same(dataset, world):
    generate_queries(dataset)
    expected = rows(dataset)
    generate_queries(dataset, "extractive", ExtractiveOptions(per_doc=1))
    outcomes = [generate_queries(dataset, rank=r, world=world) for r in reversed(range(world))]
    assert [outcome.complete for outcome in outcomes] == [False] * (world - 1) + [True]
    assert rows(dataset) == expected


def test_wrong_calls_are_refused(dataset):
    with pytest.raises(InputError, match="unknown generator"):
        generate_queries(dataset, "doc2query")
    with pytest.raises(InputError, match="not options of"):
        generate_queries(dataset, "selective", ExtractiveOptions())
    with pytest.raises(InputError, match="rank 2 is not valid for 2 processes"):
        generate_queries(dataset, rank=2, world=2)
    assert not (dataset.path / "pseudo").exists()


def test_a_generator_that_is_refused_leaves_nothing(dataset):
    with pytest.raises(InputError, match="labeled training pairs"):
        generate_queries(dataset, "selective")
    assert not list(dataset.path.glob("pseudo/*"))


def test_a_generator_that_fails_at_its_first_documents_leaves_nothing(dataset, monkeypatch):
    def fail(self, documents):
        raise InputError("no words")

    monkeypatch.setattr(Extractive, "generate_batch", fail)
    with pytest.raises(InputError, match="no words"):
        generate_queries(dataset)
    assert not list(dataset.path.glob("pseudo/*"))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
@pytest.mark.parametrize("step", ["mkdir", "open"])
def test_a_dataset_that_is_read_only_is_to_be_copied(dataset, monkeypatch, step, number):
    owner = {"mkdir": Path, "open": os}[step]  # Python 3.10's Path.mkdir keeps its own os.mkdir
    plain = getattr(owner, step)

    def refuse(path, *given, **more):
        if "partial" in str(path):
            raise OSError(number, os.strerror(number), path)
        return plain(path, *given, **more)

    monkeypatch.setattr(owner, step, refuse)
    with pytest.raises(InputError, match=r"it is read-only \(.*Copy the dataset") as refused:
        generate_queries(dataset)
    assert str(refused.value).startswith(f"{dataset.path}: pseudo-queries are kept in the dataset")
    monkeypatch.undo()
    assert not list(dataset.path.glob("pseudo/*"))
