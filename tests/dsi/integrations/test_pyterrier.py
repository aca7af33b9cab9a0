"""The index in PyTerrier pipelines and experiments, beside BM25 by PISA: all without Java."""

from __future__ import annotations

import importlib.metadata
import json
import tarfile

import pytest

pytest.importorskip("pyterrier")

import lz4.frame
import pandas
import pyterrier as pt
from household import DOCUMENTS
from pyterrier.measures import RR, Success

from data_prep.errors import InputError
from dsi.index_folder import versions
from dsi.integrations.pyterrier import GenerativeIndex

TOPICS = pandas.DataFrame(
    [
        ("q1", "what boils water", "household"),
        ("q2", "light after sunset", "household"),
        ("q3", "yeast", "kitchen"),
    ],
    columns=["qid", "query", "topic"],
)
QRELS = pandas.DataFrame(
    [("q1", "kettle", 1), ("q2", "lamp", 1), ("q3", "bread", 1)],
    columns=["qid", "docno", "label"],
)


def corpus():
    return ({"docno": each["id"], **each} for each in DOCUMENTS)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> GenerativeIndex:
    return GenerativeIndex(tmp_path_factory.mktemp("pyterrier") / "index").index(corpus())


def test_an_experiment_with_a_re_ranker_and_bm25(artifact, tmp_path):
    pisa = pytest.importorskip("pyterrier_pisa").PisaIndex
    bm25 = pisa(str(tmp_path / "pisa"), text_field="text", threads=1)
    bm25.index(corpus())
    retrieve = artifact.retriever(3)
    text = {each["id"]: each["text"] for each in DOCUMENTS}
    shortest = pt.apply.doc_score(lambda row: -len(text[row["docno"]]))
    table = pt.Experiment(
        [retrieve, retrieve % 2 >> shortest, bm25.bm25(num_results=3, threads=1)],
        TOPICS,
        QRELS,
        [Success @ 1, RR @ 3],
        names=["index", "shortest of two", "bm25"],
    ).set_index("name")
    assert table.loc["index", "Success@1"] == 1.0
    assert table.loc["index", "RR@3"] == 1.0
    assert table.loc["bm25", "Success@1"] == 1.0
    assert set(table.index) == {"index", "shortest of two", "bm25"}


def test_results_have_the_columns_of_pyterrier_and_keep_those_of_the_queries(artifact):
    found = artifact.retriever(2)(TOPICS)
    assert {"qid", "query", "topic", "docno", "score", "rank"} == set(found.columns)
    assert found.groupby("qid").size().tolist() == [2, 2, 2]
    best = found[found["rank"] == 0].set_index("qid")["docno"].to_dict()
    assert best == {"q1": "kettle", "q2": "lamp", "q3": "bread"}
    assert found[found["qid"] == "q3"]["topic"].tolist() == ["kitchen", "kitchen"]
    direct = artifact.opened().search("yeast", k=2)
    assert found[found["qid"] == "q3"]["score"].tolist() == pytest.approx(
        [hit.score for hit in direct]
    )


def test_texts_are_there_for_re_rankers(artifact):
    found = artifact.retriever(1, with_text=True)(TOPICS)
    assert found[found["qid"] == "q1"]["text"].tolist() == [DOCUMENTS[1]["text"]]
    assert found[found["qid"] == "q1"]["title"].tolist() == ["Kettles"]


@pytest.mark.parametrize("queries", [[], [("q1", "  ")]])
def test_without_a_query_nothing_is_found(artifact, queries):
    found = artifact.retriever(2)(pandas.DataFrame(queries, columns=["qid", "query"]))
    assert len(found) == 0
    assert {"qid", "query", "docno", "score", "rank"} == set(found.columns)


def test_what_is_no_frame_of_queries_is_refused(artifact):
    with pytest.raises(pt.validate.InputValidationError):
        artifact.retriever(2)(pandas.DataFrame({"qid": ["q1"]}))
    with pytest.raises(InputError, match="document 1 has no docno or no text"):
        GenerativeIndex(artifact.path.parent / "other").index([{"docno": "a"}])
    with pytest.raises(InputError, match="fields"):
        artifact.index(corpus(), fields=["text"])


def test_an_index_is_found_by_its_entry_point(artifact):
    meta = json.loads((artifact.path / "pt_meta.json").read_text("utf-8"))
    name = f"{meta['type']}.{meta['format']}"
    entries = importlib.metadata.entry_points(group="pyterrier.artifact")
    if name not in entries.names:
        pytest.skip("dsi-toolkit is not installed with its entry points")
    loaded = pt.Artifact.load(artifact.path)
    assert isinstance(loaded, GenerativeIndex)
    assert loaded.retriever(1)(TOPICS)["docno"].tolist() == ["kettle", "lamp", "bread"]


def test_a_package_has_the_live_version_alone(artifact):
    names = [name for name, _ in artifact._package_files()]
    live = versions.live(artifact.path)
    assert {"live", "pt_meta.json", f"versions/{live}/manifest.json"} <= set(names)
    assert "lock" not in names
    package = artifact.build_package(str(artifact.path.parent / "index.tar.lz4"), verbose=False)
    with lz4.frame.open(package) as packed, tarfile.open(fileobj=packed) as files:
        files.extractall(artifact.path.parent / "copy", filter="data")
    copy = GenerativeIndex(artifact.path.parent / "copy")
    assert copy.retriever(1)(TOPICS)["docno"].tolist() == ["kettle", "lamp", "bread"]
