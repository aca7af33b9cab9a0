"""The lexical layer follows additions, deletions, retraining and rollbacks."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from growing_corpus import NEW, OLD, found, part
from safetensors.torch import load_file

from dsi import Index
from dsi.index_folder import versions
from dsi.indexing.build import train_index
from dsi.indexing.options import TrainingOptions
from dsi.lexical.layer_builder import open_layer
from dsi.updating.delete import delete_documents
from dsi.updating.options import UpdateOptions
from dsi.updating.update import update_index


def live(index: Path) -> Path:
    return versions.folder(index, versions.live(index))


def scores(index: Path, query: str) -> np.ndarray:
    """Returns what the live layer alone says of each row of the table."""
    return open_layer(live(index) / "lexical").scores([query])[0]


@pytest.fixture(scope="module")
def untrained(corpora, tmp_path_factory):
    """An index as `dsi train` makes it by default: no step is made."""
    out = tmp_path_factory.mktemp("untrained") / "index"
    manifest = train_index(corpora["old"], out, TrainingOptions())
    assert manifest.metrics["steps"] == 0
    return out


@pytest.fixture
def default(untrained, tmp_path):
    return Path(shutil.copytree(untrained, tmp_path / "default"))


def test_what_was_not_trained_is_appended_to_and_no_old_weight_moves(default, corpora):
    update = update_index(default, corpora["new"], UpdateOptions())
    assert update.manifest.origin == "new by append"
    assert update.manifest.metrics["steps"] == 0
    assert found(default, corpora["full"], NEW, k=3) == 1
    assert found(default, corpora["full"], OLD) == 1
    one, two = (
        load_file(versions.folder(default, name) / "model" / "model.safetensors")["lm_head.weight"]
        for name in ("0001", "0002")
    )
    assert len(two) > len(one)
    assert (two[: len(one)] == one).all()
    assert scores(default, "cityvek31").argmax() == 31


@pytest.mark.parametrize("strategy", ["append", "generative", "retrain"])
def test_words_of_deleted_documents_find_nothing_after_an_update(strategy, default, corpora):
    assert scores(default, "cityzor3").argmax() == 3
    delete_documents(default, ["d3"], audit=False)
    assert not scores(default, "cityzor3").any()
    steps = None if strategy == "append" else 2
    update_index(default, corpora["new"], UpdateOptions(strategy=strategy, steps=steps))
    after = scores(default, "where is the cityzor3 tram")
    table = Index.open(default, "cpu").table
    assert len(after) == len(table) == 40
    assert not after[table.retired].any()
    assert not scores(default, "cityzor3").any()
    assert scores(default, "cityvek31").argmax() == table.row_of("d31")


def test_rolling_back_brings_the_layer_of_before(default, corpora):
    texts = corpora["full"].query_texts()
    asked = [texts[f"test{number}"] for number in OLD]
    before = Index.open(default, "cpu").search(asked, k=5)
    update_index(default, corpora["new"], UpdateOptions())
    versions.rollback(default)
    assert Index.open(default, "cpu").search(asked, k=5) == before


def test_an_index_that_was_retrained_scores_as_one_trained_at_once(default, corpora, tmp_path):
    update_index(default, corpora["new"], UpdateOptions(strategy="retrain"))
    # The new documents have no training queries.
    whole = part(corpora["full"], tmp_path / "whole", OLD, ("train", "dev", "test"), others=NEW)
    train_index(whole, tmp_path / "once", TrainingOptions())
    for query in ("cityvek31 market", "seazor0", "where is the tide"):
        np.testing.assert_array_equal(scores(default, query), scores(tmp_path / "once", query))
