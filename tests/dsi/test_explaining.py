"""The texts of hits, and the components of their scores."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_index import DOCUMENTS, small_index

import dsi
from data_prep.errors import InputError
from dsi import Index, cli
from dsi.commands import search
from dsi.indexing.options import TrainingOptions
from dsi.search.options import SearchOptions
from dsi.updating.delete import delete_documents

TEXTS = {each["id"]: each["text"] for each in DOCUMENTS}
KINDS = ("atomic", "semantic", "description")
WORDS = ["ink", "dye", "boils", "water", "slash", "paths", "tide", "五", "unheard", "the"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A folder of an index of each kind of identifiers."""
    place = tmp_path_factory.mktemp("explained")
    for kind in KINDS:
        small_index(place / kind, kind)
    return {kind: place / kind for kind in KINDS}


@pytest.fixture(scope="module")
def indexes(folders) -> dict[str, Index]:
    return {kind: Index.open(folder, "cpu") for kind, folder in folders.items()}


def test_a_hit_has_its_text_when_it_is_asked_for(indexes):
    index = indexes["atomic"]
    with_text = index.search("boils water", k=7, with_text=True)
    assert {hit.doc_id: hit.text for hit in with_text} == TEXTS
    without = index.search("boils water", k=7)
    assert [hit.text for hit in without] == 7 * [None]
    assert [(hit.doc_id, hit.score) for hit in without] == [
        (hit.doc_id, hit.score) for hit in with_text
    ]


def test_a_document_is_what_was_given(indexes):
    for each in DOCUMENTS:
        document = indexes["atomic"].document(each["id"])
        assert (document.doc_id, document.title, document.text) == (
            each["id"], each["title"], each["text"],
        )  # fmt: skip


def test_deleted_and_unknown_documents_have_no_text(folders, tmp_path):
    path = tmp_path / "index"
    shutil.copytree(folders["atomic"], path)
    delete_documents(path, ["kettle"])
    index = Index.open(path, "cpu")
    with pytest.raises(InputError, match="'kettle' was deleted"):
        index.document("kettle")
    with pytest.raises(InputError, match="no document 'cup'"):
        index.document("cup")
    with pytest.raises(InputError, match="'kettle' was deleted"):
        index.explain("water", "kettle")
    hits = index.search("boils water", k=7, with_text=True)
    assert {hit.doc_id: hit.text for hit in hits} == {
        doc_id: text for doc_id, text in TEXTS.items() if doc_id != "kettle"
    }
    before = Index.open(path, "cpu", version="0001")
    assert before.document("kettle").text == TEXTS["kettle"]
    with pytest.raises(InputError, match=r"no version '0009'.*0001, 0002"):
        Index.open(path, "cpu", version="0009")


def test_an_index_without_its_texts_searches_and_says_so(folders, tmp_path):
    path = tmp_path / "index"
    shutil.copytree(folders["atomic"], path)
    manifest = path / "versions" / "0001" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["files"] = None
    manifest.write_text(json.dumps(content))
    shutil.rmtree(path / "versions" / "0001" / "corpus")
    index = Index.open(path, "cpu")
    assert index.search("ink")[0].doc_id == "pen"
    with pytest.raises(InputError, match="without the texts"):
        index.document("pen")
    with pytest.raises(InputError, match="without the texts"):
        index.search("ink", with_text=True)


def test_texts_of_a_version_that_was_removed_are_said_to_be_gone(folders, tmp_path):
    path = tmp_path / "index"
    shutil.copytree(folders["atomic"], path)
    index = Index.open(path, "cpu")
    shutil.rmtree(path)
    assert index.search("ink")[0].doc_id == "pen"
    with pytest.raises(InputError, match="removed after the index was opened"):
        index.document("pen")


def test_a_damaged_text_is_found_by_its_checksum(folders, tmp_path):
    path = tmp_path / "index"
    shutil.copytree(folders["atomic"], path)
    file = path / "versions" / "0001" / "corpus" / "corpus" / "data.arrow"
    file.write_bytes(file.read_bytes().replace(b"boils water", b"boils paper"))
    with pytest.raises(InputError, match="checksum"):
        Index.open(path, "cpu").document("pen")


def added(parts: list[float]) -> float:
    """Adds up in float32 and in order."""
    total = np.float32(0)
    for part in parts:
        total = np.float32(total + np.float32(part))
    return float(total)


@settings(max_examples=40)
@given(
    kind=st.sampled_from(KINDS),
    score=st.sampled_from(["model", "constrained"]),
    words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=6),
    only=st.none() | st.lists(st.sampled_from(sorted(TEXTS)), min_size=1, unique=True),
)
def test_the_parts_add_up_to_the_score_of_the_search(indexes, kind, score, words, only):
    index, query = indexes[kind], " ".join(words)
    options = SearchOptions(score=score, only=only)
    hits = index.search(query, k=7, options=options)
    assert len(hits) == len(only or TEXTS)
    explained = index.explain(query, [hit.doc_id for hit in hits], options)
    for hit, told in zip(hits, explained, strict=True):
        assert (told.query, told.doc_id, told.title) == (query, hit.doc_id, hit.title)
        [path] = told.paths
        assert added([step.adds for step in path.steps]) == told.identifier == path.log_probability
        assert added([term.adds for term in told.terms]) == told.words
        assert added([told.identifier, told.words]) == told.score
        assert all(term.count * term.weight == pytest.approx(term.adds) for term in told.terms)
        codes = tuple(step.code for step in path.steps)
        assert codes == index.table.sequence(index.table.row_of(hit.doc_id))
        if kind == "atomic":  # one step of one row, computed as in the search: bit for bit
            assert told.score == hit.score
        else:
            assert told.score == pytest.approx(hit.score, abs=1e-5)
        assert told.words == index.lexical.scores([query])[0, index.table.row_of(hit.doc_id)]


def test_the_words_are_those_that_query_and_document_share(indexes):
    told = indexes["atomic"].explain("ink ink dye water", "pen")
    terms = {term.term: term for term in told.terms}
    assert set(terms) == {"ink", "dye", "water", "ink dye"}
    assert terms["ink"].count == 2
    assert terms["ink"].weight > 0
    assert terms["water"].weight == terms["water"].adds == 0
    pair = indexes["atomic"].explain("boils water", "kettle")
    assert [term.term for term in pair.terms if term.weight] == ["boil", "water", "boil water"]


def test_steps_have_their_place_among_the_codes_that_lead_somewhere(indexes):
    hits = indexes["atomic"].search("boils water", k=7)
    explained = indexes["atomic"].explain("boils water", [hit.doc_id for hit in hits])
    steps = [told.paths[0].steps[0] for told in explained]
    for step in steps:
        assert step.codes == 7
        assert step.rank == 1 + sum(other.adds > step.adds for other in steps)


def test_several_identifiers_count_by_the_sum_of_their_probabilities(tmp_path):
    plain = TrainingOptions(docids="description")
    several = dataclasses.replace(plain.description, identifiers=2)
    index = dsi.build(
        DOCUMENTS, tmp_path / "index", dataclasses.replace(plain, description=several)
    )
    hits = index.search("boils water", k=7, beams=50)
    for hit in hits:
        told = index.explain("boils water", hit.doc_id)
        assert told.score == pytest.approx(hit.score, abs=1e-5)
        sums = np.log(np.exp([path.log_probability for path in told.paths]).sum())
        assert told.identifier == pytest.approx(sums, abs=1e-5)
    assert any(len(index.explain("ink", hit.doc_id).paths) > 1 for hit in hits)


def test_the_command_shows_texts_and_parts(folders, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    words = ["search", str(folders["atomic"]), "boils water", "--k", "2", "--text", "--explain"]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^kettle: Kettles\n  A kettle boils water for tea\.$", shown, re.M)
    assert "boil water" in shown
    assert cli.main([*words, "--json"]) == 0
    [result] = json.loads(capsys.readouterr().out)["results"]
    for hit in result["hits"]:
        told = hit["explanation"]
        assert hit["text"] == TEXTS[hit["doc_id"]]
        assert told["score"] == pytest.approx(hit["score"], abs=1e-5)
        assert added([told["identifier"], told["words"]]) == told["score"]
    assert cli.main(["search", str(folders["atomic"]), "ink", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)["results"][0]["hits"][0]
    assert set(plain) == {"rank", "doc_id", "score", "title"}


def test_a_prompt_shows_texts_and_parts(folders, capsys, monkeypatch):
    monkeypatch.setattr(search, "_typed_lines", lambda: iter(["boils water"]))
    index = Index.open(folders["atomic"])
    display = search.Display(text=True, explain=True)
    options = (search.SearchArguments(), SearchOptions(), display)
    search._interactive_search(search.Searches(index, 1, *options))
    shown = capsys.readouterr().out
    assert "kettle: Kettles\n  A kettle boils water for tea.\n" in shown
    assert "boil water" in shown


@pytest.mark.parametrize("switch", ["--text", "--explain"])
def test_a_run_has_no_room_for_texts_and_parts(folders, tmp_path, capsys, switch):
    words = ["search", str(folders["atomic"]), "ink", "--run", str(tmp_path / "run"), switch]
    assert cli.main(words) == 2
    assert f"{switch} adds to the output, but --run prints no results" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
