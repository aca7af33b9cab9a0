"""The network counts less beside the lexical layer where dev queries say so, else as by default."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_encoders

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from dsi import Index
from dsi.indexing.build import train_index
from dsi.indexing.network_weight import FACTORS, reciprocal_ranks, significantly_best
from dsi.indexing.options import TrainingOptions
from dsi.training.options import ModelOptions

DEFAULT = FACTORS.index(1.0)


def test_ranks_are_those_of_the_weighted_sum():
    network = np.array([[4.0, 0.0, 2.0]], np.float32)
    lexical = np.array([[0.0, 3.0, 1.5]], np.float32)
    ranks = reciprocal_ranks(network, lexical, np.array([1]))
    for factor, (rank,) in zip(FACTORS, ranks, strict=True):
        scores = [factor * 4, 3, factor * 2 + 1.5]
        assert rank == 1 / sum(score >= scores[1] for score in scores)


@pytest.mark.parametrize(
    ("gain", "expected"), [(0.3, FACTORS[0]), (0.003, 1.0), (0.0, 1.0), (-0.3, 1.0)]
)
def test_the_default_stays_unless_another_is_significantly_better(rng, gain, expected):
    ranks = np.tile(rng.random(400), (len(FACTORS), 1))
    ranks[0] += gain + 0.1 * rng.standard_normal(400)
    assert significantly_best(ranks) == expected


def test_one_query_changes_nothing_without_a_difference():
    assert significantly_best(np.ones((len(FACTORS), 1))) == 1.0


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def misled(tmp_path_factory):
    """A corpus, and an encoder that takes each document for its neighbor."""
    pytest.importorskip("sentence_transformers")
    folder = tmp_path_factory.mktemp("misled")
    count = 24
    names = [f"alpha{number}" for number in range(count)]
    documents = [Document(f"d{row}", "", f"{name} beta{row}") for row, name in enumerate(names)]
    queries = [Query(f"q{row}", name) for row, name in enumerate(names)]
    qrels = [Qrel(f"q{row}", f"d{row}", 1, "dev") for row in range(count)]
    dataset = write_dataset(folder / "dataset", InMemorySource(documents, queries, qrels))
    vectors = {name: np.eye(count)[row].tolist() for row, name in enumerate(names)}
    for row in range(count):
        vectors[f"beta{row}"] = (9 * np.eye(count)[(row + 1) % count]).tolist()
    return dataset, tiny_encoders.write_static(folder / "encoder", vectors)


@pytest.mark.parametrize(("weight", "hits"), [(16.0, 24), (15.0, 0)])
def test_a_misleading_encoder_costs_nothing_unless_its_weight_is_given(
    misled, tmp_path, weight, hits
):
    dataset, encoder = misled
    model = ModelOptions(encoder=encoder, encoder_weight=weight)
    manifest = train_index(dataset, tmp_path / "index", TrainingOptions(model=model))
    assert manifest.metrics.get("network_weight", 1.0) == (FACTORS[0] if hits else 1.0)
    index = Index.open(tmp_path / "index", "cpu")
    found = index.search([f"alpha{row}" for row in range(24)], 1)
    assert sum(line[0].doc_id == f"d{row}" for row, line in enumerate(found)) == hits
