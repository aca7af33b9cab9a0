"""The index as an MTEB model, on an in-memory task."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("mteb")

import mteb
from datasets import Dataset
from household import DOCUMENTS
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import SearchProtocol

from data_prep.errors import InputError
from dsi.integrations.mteb import GenerativeIndex

QUERIES = {"q1": "what boils water", "q2": "light at night after sunset", "q3": "yeast"}
QRELS = {"q1": {"kettle": 1}, "q2": {"lamp": 1}, "q3": {"bread": 1, "pen": 0}}


class InMemoryTask(AbsTaskRetrieval):
    """Six documents and three queries; nothing is fetched."""

    metadata = TaskMetadata(
        name="SixDocuments",
        description="Household knowledge.",
        reference=None,
        dataset={"path": "none/none", "revision": "0"},
        type="Retrieval",
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
    )
    k_values = (1, 3, 10)
    top_ranked = None

    def load_data(self, num_proc=None, **kwargs):
        rows = [{**each, "text": each["text"]} for each in DOCUMENTS]
        self.dataset = {"default": {"test": {}}}
        self.dataset["default"]["test"] = {
            "corpus": Dataset.from_list([*rows, {"id": "empty", "title": "", "text": " "}]),
            "queries": Dataset.from_list([{"id": k, "text": v} for k, v in QUERIES.items()]),
            "relevant_docs": QRELS,
            "top_ranked": self.top_ranked,
        }
        self.data_loaded = True


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> GenerativeIndex:
    return GenerativeIndex(tmp_path_factory.mktemp("mteb") / "indexes")


@pytest.fixture(scope="module")
def result(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictions")
    results = mteb.evaluate(
        model, InMemoryTask(), cache=None, prediction_folder=folder, show_progress_bar=False
    )
    return results, folder


def test_it_is_a_model_that_searches(model):
    assert isinstance(model, SearchProtocol)
    meta = model.mteb_model_meta
    assert (meta.name, meta.framework) == ("dsi-toolkit/generative-index", ["PyTorch"])


def test_a_task_is_evaluated(result):
    results, folder = result
    [task] = results.task_results
    [scores] = task.scores["test"]
    assert scores["hit_rate_at_1"] == 1.0
    assert scores["main_score"] == scores["ndcg_at_10"] == 1.0
    [file] = folder.rglob("*.json")
    written = json.loads(file.read_text("utf-8"))
    ranked = written["default"]["test"]["q1"]
    assert max(ranked, key=ranked.get) == "kettle"
    assert "empty" not in ranked


def test_an_index_that_is_there_is_opened(result, model):
    again = GenerativeIndex(model.folder)
    mteb.evaluate(again, InMemoryTask(), cache=None, show_progress_bar=False)
    assert again._index.manifest.created == model._index.manifest.created


def search(model, queries, **options):
    places = {"task_metadata": InMemoryTask.metadata, "hf_split": "test", "hf_subset": "default"}
    return model.search(Dataset.from_list(queries), **places, **{"top_k": 3, **options})


def test_an_empty_query_finds_nothing_and_turns_are_joined(result, model):
    turns = [["water", "what boils it, tea?"], [" "]]
    found = search(model, [{"id": str(n), "text": text} for n, text in enumerate(turns)])
    assert max(found["0"], key=found["0"].get) == "kettle"
    assert found["1"] == {}


def test_documents_to_rank_again_are_the_only_ones(result, model):
    queries = [{"id": "q1", "text": QUERIES["q1"]}, {"id": "q2", "text": QUERIES["q2"]}]
    among = {"q1": ["pen", "whale", "unknown"]}
    found = search(model, queries, top_ranked=among, top_k=10)
    assert set(found["q1"]) == {"pen", "whale"}
    assert found["q2"] == {}
    assert found["q1"]["whale"] > found["q1"]["pen"], "it has the word water"


def test_what_makes_no_sense_is_refused(tmp_path):
    model = GenerativeIndex(tmp_path)
    with pytest.raises(InputError, match="nothing has been indexed"):
        search(model, [{"id": "q", "text": "a"}])
    with pytest.raises(InputError, match="no columns id and text"):
        model.index(
            Dataset.from_list([{"id": "1", "image": "x"}]),
            task_metadata=InMemoryTask.metadata,
            hf_split="test",
            hf_subset="default",
        )
