"""Updating an index after deletions, and retraining after updates."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import growing_corpus
import pytest
import small
from growing_corpus import NEW, found

from data_prep.errors import InputError
from dsi import Index
from dsi.index_folder import versions
from dsi.indexing.build import train_index
from dsi.updating.delete import delete_documents
from dsi.updating.options import UpdateOptions
from dsi.updating.update import update_index

QUICK = UpdateOptions(strategy="generative", steps=6, ratio=0.0)
RETRAIN = UpdateOptions(strategy="retrain", steps=6)


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
@pytest.mark.parametrize("strategy", ["generative", "reindex", "retrain"])
def test_deleted_documents_stay_deleted(kind, strategy, trained, corpora, tmp_path):
    index = Path(shutil.copytree(trained(kind), tmp_path / "index"))
    before = Index.open(index, "cpu").table
    delete_documents(index, ["d3", "d5"], audit=False)
    options = UpdateOptions(strategy=strategy, steps=6)
    assert update_index(index, corpora["new"], options).manifest.documents == 38
    opened = Index.open(index, "cpu")
    kept = [row for row in range(30) if row not in (3, 5)]
    assert opened.table.live.tolist() == [*kept, *range(30, 40)]
    assert [opened.table.sequence(row) for row in kept] == [before.sequence(row) for row in kept]
    assert found(index, corpora["full"], NEW) >= 0.9
    assert found(index, corpora["full"], kept) >= 0.6
    assert found(index, corpora["full"], [3, 5]) == 0


def test_a_document_that_came_back_is_retrained_under_its_new_identifier(index, corpora):
    delete_documents(index, ["d3"], audit=False)
    done = update_index(index, corpora["full"], RETRAIN)
    assert "d3" in done.difference.added
    opened = Index.open(index, "cpu")
    assert (len(opened.table), len(opened.table.live)) == (41, 40)
    assert found(index, corpora["full"], [3]) == 1


def options():
    return growing_corpus.options("atomic")


def test_training_again_where_an_index_has_grown_changes_nothing(index, corpora):
    update_index(index, corpora["new"], QUICK)
    delete_documents(index, ["d3"], audit=False)
    before = small.weights(index)
    assert train_index(corpora["old"], index, options()).version == "0003"
    assert (small.weights(index), versions.live(index)) == (before, "0003")


def test_training_otherwise_where_an_index_has_grown_is_refused(index, corpora):
    update_index(index, corpora["new"], QUICK)
    other = dataclasses.replace(options(), seed=9)
    with pytest.raises(InputError, match=r"index of other options \(--seed 0 there, 9 here\)"):
        train_index(corpora["old"], index, other)
    assert versions.live(index) == "0002"
