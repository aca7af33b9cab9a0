"""The API of `import dsi`, and its error messages."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
from small_index import small_index

import dsi
from data_prep.dataset import Dataset, Document
from data_prep.errors import InputError, on_command_line
from data_prep.sources.base import SourceOptions
from data_prep.sources.tabular_files import documents_of_records
from dsi.index import usable_device
from dsi.training.options import LoopOptions

OFFERED = ("build", "delete", "evaluate", "rollback", "update", "Index", "Hit", "InputError")


@pytest.fixture(autouse=True)
def called_from_python():
    with on_command_line(False):
        yield


def in_a_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_tab_shows_what_there_is():
    code = (
        "import dsi; print([name for name in dir(dsi) if name[0] != '_' or name == '__version__'])"
    )
    shown = in_a_process(code)
    for name in (*OFFERED, "TrainingOptions", "UpdateOptions", "SearchOptions", "__version__"):
        assert repr(name) in shown


def test_everything_that_is_listed_is_there():
    for name in dsi.__all__:
        assert getattr(dsi, name) is not None
    assert dsi.__version__ == version("dsi-toolkit")
    assert dsi.InputError is InputError
    assert dsi.LoopOptions is LoopOptions
    assert issubclass(InputError, ValueError)
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        dsi.train  # noqa: B018


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--loop.steps -1 is negative", "loop.steps -1 is negative."),
        ("--per-doc 0 and --dry_run", "per_doc 0 and dry_run."),
        ("Give --mix.pseudo, or omit it", "Give mix.pseudo, or omit it."),
        (
            "Run dsi update INDEX NEW --strategy retrain",
            "Run dsi update INDEX NEW --strategy retrain.",
        ),
        ("next: `dsi info x --all`; or --seed", "next: `dsi info x --all`; or seed."),
        ("a--b and 3 -- 4", "a--b and 3 -- 4."),
    ],
)
def test_errors_speak_of_arguments_in_python_and_of_options_on_the_command_line(line, told):
    error = InputError(line)
    assert str(error) == told
    with on_command_line():
        assert str(error) == f"{line}."


def test_options_that_make_no_sense_are_told_as_fields():
    with pytest.raises(InputError, match=r"^loop\.steps -1 is negative\.$"):
        LoopOptions(steps=-1)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: dsi.build([], 7), r"path is an int, not a path"),
        (lambda: dsi.build([], "x", {"docids": "rq"}), r"options is a dict, not a TrainingOptions"),
        (lambda: dsi.update("x", [], {}), r"options is a dict, not a UpdateOptions"),
        (lambda: dsi.update([{"id": "a"}], "x"), r"Call dsi\.update\(index, documents\)"),
        (lambda: dsi.delete(None, ["a"]), r"index is a NoneType, not a path"),
        (lambda: dsi.delete("x", [7]), r"document id 7 is an int, not a str"),
        (lambda: dsi.rollback("x", 3), r"to is an int, not a str"),
        (lambda: dsi.evaluate("x", 3), r"dataset is an int, not a path"),
        (lambda: dsi.LoopOptions(steps="5"), r"loop\.steps is '5', not a whole number or null"),
        (lambda: dsi.LoopOptions(precision="fp8"), r"loop\.precision 'fp8' is unknown"),
        (lambda: dsi.ModelOptions(size=3), r"model\.size is 3, not a text"),
        (lambda: dsi.TrainingOptions(loop={"steps": 3}), r"loop is .*, not LoopOptions"),
        (lambda: dsi.UpdateOptions(lr="fast"), r"lr is 'fast', not a number or null"),
        (lambda: dsi.LoraOptions(targets="q,v"), r"lora\.targets is 'q,v', not a list"),
    ],
)
def test_values_of_another_type_are_named(call, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=told):
        call()
    assert list(tmp_path.iterdir()) == []


def test_the_former_order_of_update_is_refused_with_the_new_one(tmp_path):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "live").write_text("0001\n")
    (tmp_path / "docs.jsonl").write_text('{"id": "a", "text": "b"}\n')
    with pytest.raises(InputError, match=r"Call dsi\.update\(index, documents\)"):
        dsi.update(str(tmp_path / "docs.jsonl"), tmp_path / "index")


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> dsi.Index:
    return small_index(tmp_path_factory.mktemp("index") / "index")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda index: index.search(None), "queries is a NoneType"),
        (lambda index: index.search({"what": 1}), "queries is a dict"),
        (lambda index: index.search(b"boils"), "queries is a bytes"),
        (lambda index: index.search([1]), "query 1 is not a string: 1"),
        (lambda index: index.search("boils", k=2.0), "k is 2.0, not a whole number"),
        (lambda index: index.search("boils", k="2"), "k is '2', not a whole number"),
        (lambda index: index.search("boils", k=True), "k is true, not a whole number"),
        (lambda index: index.search("boils", beams=2.5), "beams is 2.5, not a whole number"),
        (lambda index: index.document(3), "the document id 3 is an int, not a str"),
        (lambda index: index.explain("boils", None), "doc_ids is a NoneType"),
        (lambda index: dsi.Index.open(None), "path is a NoneType, not a path"),
        (lambda index: dsi.Index.open(b"index"), "path is a bytes, not a path"),
        (lambda index: Dataset.open(3), "path is an int, not a path"),
        (lambda index: dsi.delete("index", None), "doc_ids is a NoneType"),
        (lambda index: dsi.delete("index", ["a"], audit="no"), "audit is 'no', not true or false"),
        (lambda index: dsi.build("\0", "x"), "documents is '\\x00', which is not a path"),
        (lambda index: dsi.build([], "\ud800"), "path is '\\ud800', which is not a path"),
        (lambda index: dsi.evaluate("x", "y", split=3), "split is 3, not a text"),
        (lambda index: dsi.evaluate("x", "y", baselines=[3]), "baselines is [3], not a list"),
        (lambda index: usable_device(1.5), "cannot use the device '1.5'"),
        (lambda index: index.search("boils", options={"k": 1}), "options is a dict, not a Search"),
        (lambda index: index.search("boils", processes=7), "processes is an int, not a Processes"),
        (lambda index: index.search("boils", with_text="no"), "with_text is 'no', not true"),
        (lambda index: index.explain("boils", "kettle", 7), "options is an int, not a Search"),
        (lambda index: index.hops({"what": 1}), "queries is a dict"),
        (lambda index: index.hops([1]), "query 1 is not a string: 1"),
        (lambda index: index.hops("boils", k="2"), "k is '2', not a whole number"),
        (lambda index: index.hops("boils", hops="2"), "hops is '2', not HopOptions or a whole"),
    ],
)
def test_what_an_index_is_asked_with_another_type_is_named(index, call, told):
    with pytest.raises(InputError, match=re.escape(told)):
        call(index)


def test_whole_numbers_of_numpy_are_whole_numbers(index):
    assert len(index.search("what boils water", k=np.int64(2))) == 2
    documents = [(1, {"id": np.int64(7), "text": np.str_("A xylophant.")})]
    found = documents_of_records(iter(documents), SourceOptions(), "documents")
    assert list(found) == [Document("7", "", "A xylophant.")]
