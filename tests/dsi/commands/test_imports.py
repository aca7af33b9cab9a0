"""Commands do not import libraries that take longer to import than the command takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

import dsi

SLOW = ("torch", "transformers", "datasets", "sklearn", "scipy", "faiss", "pandas", "accelerate")
NOT_SEARCHING = (
    "transformers", "datasets", "sklearn", "faiss", "pandas", "accelerate", "ir_measures",
    "sympy", "tensorboard", "scipy", "bm25s",
)  # fmt: skip
WORDS = ("ink", "water", "light", "paper", "steam", "night")


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imports") / "index"
    dsi.build([{"id": word, "text": f"a text about {word}"} for word in WORDS], folder)
    return folder


def imported(code: str, *words: str) -> set[str]:
    """Runs Python code in a process of its own; returns the packages that it has imported."""
    last = "print('modules', *{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{last}", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.rpartition("modules")[2].split())


CALL = "from dsi.cli import main\nassert main(sys.argv[1:]) == 0"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import dsi", ()),
        ("import dsi\ndir(dsi), dsi.__version__, dsi.InputError", ()),
        (CALL, ("--help",)),
        (CALL, ("--version",)),
        (CALL, ("search", "--help-all")),
    ],
    ids=["import", "names", "help", "version", "help of a command"],
)
def test_what_answers_at_once_imports_nothing_slow(code, words):
    assert imported(code, *words) & set(SLOW) == set()


def test_a_search_imports_torch_and_no_more_than_it_needs(index):
    found = imported(CALL, "search", str(index), "water")
    assert "torch" in found
    assert found & set(NOT_SEARCHING) == set()
    found = imported(f"import dsi\ndsi.Index.open({str(index)!r}).search('water')")
    assert found & set(NOT_SEARCHING) == set()


def test_a_wrong_call_is_told_before_torch_is_imported(tmp_path):
    code = "from dsi.cli import main\nassert main(sys.argv[1:]) == 2"
    assert imported(code, "search", str(tmp_path), "water") & set(SLOW) == set()
