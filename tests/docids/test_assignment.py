import json
from dataclasses import replace

import pytest

from data_prep.dataset import Document
from data_prep.errors import InputError
from docids.assignment import Assignment, assign
from docids.embeddings import EmbeddingOptions
from docids.kinds import KINDS, Kind, TreeOptions
from docids.pieces import Pieces

TOPICS = ["cats purr and sleep", "stocks fall on markets", "rain and snow in winter"]
TEXTS = [f"{TOPICS[i % 3]} {i}" for i in range(60)]
DOCUMENTS = [Document(f"doc-{i}", "", text) for i, text in enumerate(TEXTS)]


def options_of(kind):
    """Options with which a kind can name a small corpus of any ids."""
    if kind in ("semantic", "random"):
        return TreeOptions(branching=3, leaf_capacity=25)
    # A few steps do where the training of the codes does not matter.
    changes = {"url": {"column": "doc_id"}, "rqvae": {"steps": 50}}.get(kind)
    return KINDS[kind].Options(**changes) if changes else None


def assigned(kind, **settings):
    options = options_of(kind)
    return assign(DOCUMENTS, kind=kind, options=options, seed=4, **settings)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_saved_assignment_goes_on_where_it_was(kind, tmp_path):
    made, quality = assigned(kind, origin={"content_hash": "abc"})
    made.save(tmp_path / "docids", quality)
    opened = Assignment.open(tmp_path / "docids")
    assert opened.origin == {"content_hash": "abc"}
    assert json.loads((tmp_path / "docids" / "quality.json").read_text()) == quality.to_dict()
    new = [Document("new-1", "", "cats purr"), Document("new-2", "", "snow in winter")]
    later, expected = (each.extend(new).table for each in (opened, made))
    assert [later.sequence(r) for r in range(62)] == [expected.sequence(r) for r in range(62)]
    assert [later.sequence(r) for r in range(60)] == [made.table.sequence(r) for r in range(60)]
    assert opened.retire(["doc-3"]).table.retired.sum() == 1


def test_new_documents_join_their_topic(tmp_path):
    made, quality = assigned("semantic", embedding=EmbeddingOptions(dimensions=8))
    assert quality.purity.value == 1.0
    made.save(tmp_path / "docids")
    new = Document("new", "", "a cat that purrs and sleep")
    table = Assignment.open(tmp_path / "docids").extend([new]).table
    assert table.sequence(60)[0] == table.sequence(0)[0]


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("texts", [["only one"], [""] * 5, ["same"] * 150, ["?", "a b", ""]])
def test_any_corpus_gets_unique_identifiers(kind, texts):
    documents = [Document(str(i), "", text) for i, text in enumerate(texts)]
    made, quality = assign(documents, kind=kind, options=options_of(kind))
    assert quality.unique == 1.0
    assert len({made.table.sequence(row) for row in range(len(texts))}) == len(texts)


def test_same_call_same_bytes(tmp_path):
    for name in ("a", "b"):
        made, quality = assigned("semantic")
        made.save(tmp_path / name, quality)
    for file in (tmp_path / "a").rglob("*.*"):
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()


def test_atomic_identifiers_need_no_vectors(tmp_path):
    made, _ = assigned("atomic", embedding=EmbeddingOptions(model="not there"))
    made.save(tmp_path / "docids")
    assert not (tmp_path / "docids" / "embedder").exists()


def test_wrong_input():
    document = Document("a", "", "x")
    with pytest.raises(InputError, match="Did you mean 'semantic'"):
        assign([document], kind="semantics")
    with pytest.raises(InputError, match="seed is -1"):
        assign([document], kind="naive", seed=-1)
    with pytest.raises(InputError, match="no document"):
        assign([], kind="atomic")
    with pytest.raises(InputError, match="'a' occurs twice"):
        assign([document, Document("a", "", "y")], kind="atomic")


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(InputError, match=r"not a folder of identifiers .* `dsi docids`"):
        Assignment.open(tmp_path)
    assigned("semantic")[0].save(tmp_path / "docids")
    (tmp_path / "docids" / "docids.json").write_text("{}")
    with pytest.raises(InputError, match="cannot read the manifest"):
        Assignment.open(tmp_path / "docids")


def test_a_folder_of_something_else_is_not_overwritten(tmp_path):
    made, _ = assigned("atomic")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter-1.tex").write_text("...")
    with pytest.raises(InputError, match="holds files that are not identifiers"):
        made.save(tmp_path / "thesis")
    with pytest.raises(InputError, match="this is a file"):
        made.save(tmp_path / "thesis" / "chapter-1.tex")
    made.save(tmp_path / "docids")
    made.save(tmp_path / "docids")


def test_titles_and_pseudo_queries_reach_the_kinds_that_ask_for_them(tmp_path):
    asked = []

    def queries(generator):
        asked.append(generator)
        return [[f"query {i}"] for i in range(3)]

    documents = [Document("a", "A", "x"), Document("b", "B", "y"), Document("c", "", "z")]
    made, _ = assign(documents, kind="description", queries=queries)
    assert asked == ["auto"]
    made.save(tmp_path / "description")
    opened = Assignment.open(tmp_path / "description")
    later = opened.extend([Document("d", "D", "w")], queries=[["query 1 2"]])
    pieces = Pieces.of(later.built.extras)
    assert [pieces.text(later.table.sequence(row)) for row in range(4)] == [
        "query 0", "query 1", "query 2", "query 1 2",
    ]  # fmt: skip
    made, _ = assign(documents, kind="title")
    later = made.extend([Document("d", "D", "w"), Document("e", "", "Line\nw")])
    pieces = Pieces.of(later.built.extras)
    assert [pieces.text(later.table.sequence(row)) for row in range(5)] == [
        "a", "b", "z", "d", "line w",
    ]  # fmt: skip


class _Odd(Kind):
    """A kind of a package whose `build` is wrong.

    Args:
        change: Turns the right answer into the wrong one.
    """

    def __init__(self, change):
        self._change = change

    def build(self, documents, options, seed):
        return self._change(KINDS["atomic"].build(documents, KINDS["atomic"].Options(), seed))

    def extend(self, built, documents, seed):
        return built


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda built: None, "build returned .*None.*, not a Built with a table"),
        (lambda built: built.table, "not a Built with a table"),
        (
            lambda built: replace(built, table=assign(DOCUMENTS[:9], kind="atomic")[0].table),
            "identifiers of other documents",
        ),
        (lambda built: replace(built, extras={"centroids": [1, 2]}), "an extra 'centroids'"),
    ],
    ids=["nothing", "a table alone", "fewer documents", "a list for an array"],
)
def test_what_a_kind_of_another_package_returns_is_checked(change, told, monkeypatch):
    monkeypatch.setitem(KINDS._entries, "odd", _Odd(change))
    with pytest.raises(InputError, match=f"the docid kind 'odd': .*{told}"):
        assign(DOCUMENTS, kind="odd")


def test_an_extension_has_the_old_documents_and_the_new_ones(monkeypatch):
    monkeypatch.setitem(KINDS._entries, "atomic-odd", _Odd(lambda built: built))
    made = assign(DOCUMENTS, kind="atomic")[0]
    monkeypatch.setitem(KINDS._entries, "atomic", KINDS["atomic-odd"])
    with pytest.raises(InputError, match="extend returned identifiers of other documents"):
        made.extend([Document("new", "", "cats purr")])
