"""A custom identifier kind from a user's module, in every command and with its own options."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from data_prep.dataset import Document, InMemorySource
from data_prep.dataset_writer import write_dataset

KIND = '''
from __future__ import annotations

from dataclasses import asdict, dataclass

from docids.kinds import KINDS, Built, Kind
from docids.table import FIRST_CODE, DocidTable


@dataclass(frozen=True)
class InitialOptions:
    """Initials as identifiers."""

    letters: int = 1
    """Letters that begin an identifier"""
    fails: bool = False
    """Raise an error"""


class Initials(Kind):
    """The first letters of a document, then a code of its own."""

    Options = InitialOptions

    def build(self, documents, options, seed):
        if options.fails:
            {}["no such key"]
        codes = [self._spelled(text, options.letters) for text in documents.texts]
        return Built(
            DocidTable.from_sequences(
                documents.doc_ids,
                [[*word, FIRST_CODE + 26 + row] for row, word in enumerate(codes)],
                alphabet_size=FIRST_CODE + 26 + len(documents),
                kind="initials",
                options=asdict(options),
            )
        )

    def extend(self, built, documents, seed):
        letters, first = built.table.options["letters"], built.table.alphabet_size
        codes = [self._spelled(text, letters) for text in documents.texts]
        codes = [[*word, first + row] for row, word in enumerate(codes)]
        return Built(built.table.append(documents.doc_ids, codes))

    def _spelled(self, text, letters):
        return [FIRST_CODE + ord(letter) - ord("a") for letter in text[:letters].lower()]


KINDS.register("initials")(Initials())
'''
RUN = """
import json, sys
import initials
from dsi.cli import main

for words in json.loads(sys.argv[1]):
    if code := main(words):
        sys.exit(code)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs commands in one process that knows the kind; their code, what they print and report."""
    folder = tmp_path_factory.mktemp("kind")
    (folder / "initials.py").write_text(KIND, encoding="utf-8")
    documents = [
        Document("a", "", "Whales sleep in the sea"),
        Document("b", "", "Foxes sleep in the forest"),
        Document("c", "", "Sailors sing in the harbour"),
    ]
    write_dataset(folder / "dataset", InMemorySource(documents))
    later = [Document("d", "", "Owls hunt in the night")]
    write_dataset(folder / "more", InMemorySource(later))

    def commands(*lines: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-c", RUN, json.dumps([line.split() for line in lines])],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr

    return commands


def test_a_kind_from_a_users_module_makes_an_index(run):
    code, out, told = run(
        "docids dataset --kind initials --initials.letters 2 --out ids --json",
        "train dataset --docids initials --initials.letters 3 --loop.precision fp32 "
        "--out index --json",
        "search index whales --json",
        "update index more --json",
        "info index --json",
    )
    assert code == 0, told
    made, trained, found, updated, known = map(json.loads, out.splitlines())
    assert made["kind"] == "initials"
    assert made["length"]["max"] == 3
    assert trained["documents"] == 3
    assert found["results"][0]["hits"][0]["doc_id"] == "a"
    assert updated["documents"] == 4
    assert known["docids"]["options"] == {"letters": 3, "fails": False}


def test_its_options_are_in_the_help_and_refused_with_other_kinds(run):
    _, out, _ = run("train --help-all")
    assert "--initials.letters LETTERS" in out
    assert "Identifier kind initials:" in out
    code, _, told = run("docids dataset --kind rq --initials.letters 2 --out other")
    assert code == 2
    assert "--initials.* has no effect with --kind rq" in told


def test_an_error_in_its_own_code_is_one_line_that_names_it(run):
    code, _, told = run("docids dataset --kind initials --initials.fails --out failed --quiet")
    assert code == 2
    assert told == (
        "dsi: the docid kind 'initials' (Initials of module initials) raised "
        "KeyError: 'no such key'. Run it again with --debug to see the traceback.\n"
    )
