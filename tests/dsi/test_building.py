"""Building an index from in-memory documents; the documentation page about it is executed."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pandas
import pytest

import dsi
from data_prep.dataset import Document, InMemorySource
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError, on_command_line
from dsi.indexing import build
from dsi.updating import update

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
DOCUMENTS = [
    {"id": "pen", "title": "Pens", "text": "A pen writes with ink."},
    {"id": "kettle", "text": "A kettle boils water."},
]


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Cuts trainings short, and works in a folder of the test's own."""
    train, grow = build.train_index, update.update_index

    def train_shortly(dataset, out, options):
        loop = dataclasses.replace(options.loop, steps=2, batch=8)
        return train(dataset, out, dataclasses.replace(options, loop=loop, per_doc=3))

    def grow_shortly(index, new, options):
        return grow(index, new, dataclasses.replace(options, steps=2))

    monkeypatch.setattr(build, "train_index", train_shortly)
    monkeypatch.setattr(update, "update_index", grow_shortly)
    monkeypatch.chdir(tmp_path)


def test_the_page_says_what_happens(capsys):
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    with on_command_line(False):
        for block in code:
            exec(block, names)
    assert names["one"][0].doc_id == "kettle"
    assert [hits[0].doc_id for hits in names["several"]] == ["kettle", "lamp"]
    assert {hit.doc_id for hit in names["hits"]} == {"pen", "kettle"}
    assert capsys.readouterr().out.endswith("\nsteps 0 is less than 1.\n")


def test_documents_come_as_records_a_file_a_dataset_or_its_folder(tmp_path):
    file = tmp_path / "docs.csv"
    file.write_text("id,text\npen,A pen writes with ink.\nkettle,A kettle boils water.\n")
    documents = [Document(each["id"], "", each["text"]) for each in DOCUMENTS]
    dataset = write_dataset(tmp_path / "dataset", InMemorySource(documents, name="two"))
    for number, given in enumerate([iter(DOCUMENTS), file, str(file), dataset, dataset.path]):
        index = dsi.build(given, tmp_path / f"index{number}")
        assert sorted(index.table.doc_ids) == ["kettle", "pen"]


def test_built_again_it_is_opened_and_other_documents_are_refused():
    first = dsi.build(DOCUMENTS, "index")
    assert dsi.build(DOCUMENTS, "index").search("ink") == first.search("ink")
    with pytest.raises(InputError, match="another dataset"):
        dsi.build(DOCUMENTS[:1], "index")


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        ([{"id": "a"}], "text"),
        ([{"text": "no id"}], "id"),
        ([DOCUMENTS[0], DOCUMENTS[0]], "pen"),
    ],
)
def test_records_that_are_no_documents_are_refused(documents, said, tmp_path):
    with pytest.raises(InputError, match=said):
        dsi.build(documents, "index")
    assert not (tmp_path / "index").exists()


def test_one_text_gives_the_hits_that_a_list_of_it_gives():
    index = dsi.build(DOCUMENTS, "index")
    assert index.search("boils water") == index.search(["boils water"])[0]
    with pytest.raises(InputError, match="is empty"):
        index.search(" ")


def test_a_data_frame_is_told_how_to_give_its_rows():
    frame = pandas.DataFrame(DOCUMENTS)
    with pytest.raises(InputError, match=r"DataFrame.*to_dict"):
        dsi.build(frame, "index")
    assert len(dsi.build(frame.fillna("").to_dict(orient="records"), "index")) == len(DOCUMENTS)


@pytest.mark.parametrize(
    "given",
    [["a text", "another"], {"a": {"id": "a", "text": "x"}}, [("a", "x")], [None], 7, None, b"x"],
    ids=repr,
)
def test_what_is_no_mapping_is_refused(given, tmp_path):
    for call in (
        lambda: dsi.build(given, "index"),
        lambda: dsi.update("index", given),
    ):
        with pytest.raises(
            InputError, match=r"not a mapping|not a collection of documents|no such index"
        ):
            call()
    assert list(tmp_path.iterdir()) == []
