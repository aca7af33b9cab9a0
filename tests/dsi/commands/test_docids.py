import io
import json
import re

import pytest
from rich.console import Console

from data_prep.dataset import Document, InMemorySource
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from data_prep.sources import SourceOptions
from docids.assignment import Assignment
from docids.embeddings import EmbeddingOptions
from docids.kind_options import KindOptions
from docids.kinds import KINDS, TreeOptions
from docids.kinds.description import DescriptionOptions
from docids.kinds.keywords import KeywordOptions
from docids.kinds.rq import ResidualOptions
from docids.kinds.rqvae import RqVaeOptions
from docids.kinds.url import UrlOptions
from docids.pieces import Pieces
from dsi.command_line.command_report import to_json
from dsi.commands.docids import docids
from dsi.commands.prepare import prepare

TOPICS = ["cats purr and sleep", "stocks fall on markets", "rain and snow in winter"]


@pytest.fixture
def dataset(tmp_path):
    documents = [Document(f"doc-{i}", f"Title {i}", f"{TOPICS[i % 3]} {i}") for i in range(30)]
    return write_dataset(tmp_path / "dataset", InMemorySource(documents, name="topics"))


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_document_gets_an_identifier(kind, dataset, tmp_path):
    kinds = KindOptions(url=UrlOptions(column="doc_id")) if kind == "url" else KindOptions()
    if kind == "rqvae":
        kinds = KindOptions(rqvae=RqVaeOptions(steps=50))
    report = docids(dataset.path, out=tmp_path / "docids", kind=kind, kinds=kinds)
    table = Assignment.open(tmp_path / "docids").table
    assert list(table.doc_ids) == dataset.doc_ids
    assert table.kind == kind
    printed = json.loads(to_json(report.data))
    assert (printed["kind"], printed["documents"]) == (kind, 30)
    assert (printed["unique"], printed["collisions"]) == (1.0, 0)
    assert set(printed["length"]) == {"min", "mean", "max", "histogram"}
    assert "purity" in printed
    kept = json.loads((tmp_path / "docids" / "quality.json").read_text())
    assert kept.items() <= printed.items()


def test_options_of_another_kind_are_refused_before_work_starts(dataset, tmp_path):
    branches = KindOptions(semantic=TreeOptions(branching=3))
    refused = "--semantic.* has no effect with --kind rq. Omit it: it applies to the kind"
    with pytest.raises(InputError, match=f"{re.escape(refused)} semantic or random"):
        docids(dataset.path, out=tmp_path / "docids", kind="rq", kinds=branches)
    assert not (tmp_path / "docids").exists()
    docids(dataset.path, out=tmp_path / "docids", kind="random", kinds=branches)


def test_what_was_chosen_for_the_user_is_said(dataset, tmp_path, capsys):
    report = docids(dataset.path, out=tmp_path / "docids", kind="rq")
    [note] = report.data["notes"]
    assert note.startswith(
        "2 codes per codebook instead of 256, because there are only 30 documents"
    )
    assert f"dsi: {note}.\n" in capsys.readouterr().err
    assert ("note", note) in report.rows
    given = KindOptions(rq=ResidualOptions(codebook=4, least_use=0))
    assert docids(dataset.path, out=tmp_path / "docids", kind="rq", kinds=given).data["notes"] == []


def test_identifiers_are_made_of_the_column_of_urls(tmp_path):
    table = tmp_path / "pages.csv"
    table.write_text("id,text,page\n1,one,https://www.u.org/a\n2,two,https://v.org/b\n")
    prepare(str(table), out=tmp_path / "dataset", options=SourceOptions(url_column="page"))
    kinds = KindOptions(url=UrlOptions(column="url"))
    docids(tmp_path / "dataset", out=tmp_path / "docids", kind="url", kinds=kinds)
    assignment = Assignment.open(tmp_path / "docids")
    pieces = Pieces.of(assignment.built.extras)
    said = [pieces.text(assignment.table.sequence(row)) for row in range(2)]
    assert said == ["u org a", "v org b"]


def test_the_manifest_says_how_they_were_made(dataset, tmp_path):
    docids(
        dataset.path,
        out=tmp_path / "docids",
        kind="semantic",
        seed=7,
        kinds=KindOptions(semantic=TreeOptions(branching=3, leaf_capacity=10, codes="level")),
        embedding=EmbeddingOptions(dimensions=5),
    )
    manifest = json.loads((tmp_path / "docids" / "docids.json").read_text())
    assert manifest["origin"] == {"dataset": "topics", "content_hash": dataset.info.content_hash}
    assert (manifest["kind"], manifest["seed"]) == ("semantic", 7)
    assert manifest["options"]["branching"] == 3
    assert manifest["options"]["codes"] == "level"
    assert manifest["embedding"]["dimensions"] == 5


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
def test_people_see_a_table(kind, dataset, tmp_path):
    out = io.StringIO()
    of_tree = kind in ("semantic", "random")
    kinds = KindOptions(semantic=TreeOptions(leaf_capacity=10)) if of_tree else KindOptions()
    report = docids(dataset.path, out=tmp_path / "d", kind=kind, kinds=kinds)
    report.show(Console(file=out, width=120))
    for word in (f"{kind} identifiers of topics", "collisions", "level 0", "purity", "written to"):
        assert word in out.getvalue()


def test_wrong_input_is_found_before_any_work(dataset, tmp_path):
    with pytest.raises(InputError, match=r"unknown docid kind 'atom'\. Did you mean 'atomic'"):
        docids(dataset.path, out=tmp_path / "docids", kind="atom")
    with pytest.raises(InputError, match="dsi prepare"):
        docids(tmp_path / "nowhere", out=tmp_path / "docids")
    with pytest.raises(InputError, match="holds files that are not identifiers"):
        docids(dataset.path, out=dataset.path)
    assert not (tmp_path / "docids").exists()


def test_shared_identifiers_are_counted(tmp_path):
    documents = [Document(f"doc-{i}", f"Title {i // 2}", f"{TOPICS[i % 3]} {i}") for i in range(30)]
    dataset = write_dataset(tmp_path / "dataset", InMemorySource(documents, name="topics"))
    out = tmp_path / "docids"
    shared = docids(dataset.path, out=out, kind="title", kinds=KindOptions(collisions="share")).data
    assert (shared["unique"], shared["collisions"]) == (0.5, 15)
    assert shared["shared_documents"] == 30
    extended = docids(
        dataset.path, out=out, kind="title", kinds=KindOptions(collisions="extend")
    ).data
    assert (extended["unique"], extended["collisions"]) == (1.0, 0)
    assert extended["resolved"] == {"the next choice": 0, "a number was added": 0}
    twins = [Document(f"doc-{i}", f"Title {i // 2}", TOPICS[i // 2 % 3]) for i in range(30)]
    same = write_dataset(tmp_path / "twins", InMemorySource(twins, name="twins"))
    assert docids(same.path, out=out, kind="title").data["resolved"]["the next choice"] == 15
    several = docids(
        dataset.path,
        out=out,
        kind="keywords",
        kinds=KindOptions(keywords=KeywordOptions(identifiers=2)),
    ).data
    assert several["identifiers"] == 60


def test_missing_pseudo_queries_are_generated_for_descriptions(dataset, tmp_path):
    assert dataset.generators == []
    docids(dataset.path, out=tmp_path / "docids", kind="description")
    assert dataset.generators == ["extractive"]
    with pytest.raises(InputError, match="unknown generator 'extractiv'"):
        docids(
            dataset.path,
            out=tmp_path / "docids",
            kind="description",
            kinds=KindOptions(description=DescriptionOptions(generator="extractiv")),
        )


def test_collisions_fit_only_kinds_that_have_them(dataset, tmp_path):
    with pytest.raises(InputError, match="--collisions share has no effect with the kind 'naive'"):
        docids(
            dataset.path,
            out=tmp_path / "docids",
            kind="naive",
            kinds=KindOptions(collisions="share"),
        )
