"""Updating an index whose output layer reads the previous codes (`--model.head pawa`)."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import growing_corpus
import numpy as np
import pytest
import torch
from growing_corpus import NEW, OLD, found
from learning import small_network

from data_prep.errors import InputError
from docids.table import PAD
from dsi import Index
from dsi.indexing.build import train_index
from dsi.updating.options import UpdateOptions
from dsi.updating.update import update_index

GENERATIVE = UpdateOptions(strategy="generative", steps=30, ratio=0.0, lr=3e-3)


@pytest.fixture(scope="module")
def trained(corpora, tmp_path_factory):
    """An index of the old documents that names most of them right."""
    folder = tmp_path_factory.mktemp("pawa") / "index"
    wanted = growing_corpus.options(
        "semantic", lexical=False, model__size="tiny", model__head="pawa", model__head_layers=1,
        loop__steps=60, loop__batch=32, mix__negatives="all", optimizer__lr=2e-3,
        optimizer__backbone_lr_scale=1.0,
    )  # fmt: skip
    with small_network():
        train_index(corpora["old"], folder, wanted)
    return folder


@pytest.fixture
def index(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "index"))


def probabilities(index: Index, query: str) -> dict[str, float]:
    """Returns the log-probability of every document, by the model on whole identifiers."""
    table, model = index.table, index.model
    codes = torch.from_numpy(table.matrix().astype(np.int64))
    begun = torch.cat([torch.full((len(codes), 1), PAD), codes[:, :-1]], dim=1)
    ids = torch.tensor(index.text.encode([query], 32)).expand(len(codes), -1)
    with torch.inference_mode():
        logits = model(
            input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=begun
        ).logits
    logs = logits.float().log_softmax(-1).gather(-1, codes.unsqueeze(-1)).squeeze(-1)
    sums = (logs * (codes != PAD)).sum(1).tolist()
    return dict(zip(table.doc_ids, sums, strict=True))


def test_new_documents_are_found_old_ones_stay_and_the_search_is_exact(index, corpora):
    before = Index.open(index, "cpu")
    known = found(index, corpora["full"], OLD)
    assert known > 0.8
    assert update_index(index, corpora["new"], GENERATIVE).wrote
    after = Index.open(index, "cpu")
    assert found(index, corpora["full"], NEW) >= 0.6  # by chance a quarter
    assert found(index, corpora["full"], OLD) >= known - 0.1
    for row in range(len(OLD)):
        assert after.table.sequence(row) == before.table.sequence(row)
    old, new = before.model.pawa.weight, after.model.pawa.weight
    assert len(new) == after.table.alphabet_size > len(old)
    assert (new[: len(old)] != old).any()
    assert new[len(old) :].abs().max() > 0
    for query in ("where is seazor0 harbour", "where is cityvek31 market"):
        hits = after.search([query], k=40, beams=40)[0]
        expected = probabilities(after, query)
        assert [hit.doc_id for hit in hits] == sorted(expected, key=expected.get, reverse=True)
        for hit in hits:
            assert hit.score == pytest.approx(expected[hit.doc_id], abs=1e-4)


def test_a_slow_adapter_follows_the_whole_network(index, corpora):
    options = dataclasses.replace(GENERATIVE, strategy="generative+i-lora", steps=3)
    assert update_index(index, corpora["new"], options).wrote
    assert found(index, corpora["full"], OLD) > 0.8


def test_frozen_rows_of_old_codes_are_those_of_the_adaptor_too(index, corpora):
    before = Index.open(index, "cpu").model
    options = dataclasses.replace(GENERATIVE, strategy="generative+frozen-rows", steps=3)
    update_index(index, corpora["new"], options)
    after = Index.open(index, "cpu").model
    known = len(before.lm_head.weight)
    assert torch.equal(after.lm_head.weight[:known], before.lm_head.weight)
    assert torch.equal(after.pawa.weight[:known], before.pawa.weight)
    assert after.pawa.weight[known:].abs().max() > 0


@pytest.mark.parametrize("strategy", ["instant", "finetune+batch-softmax", "generative+locas"])
def test_strategies_that_know_the_plain_layer_only_are_refused_before_anything_is_done(
    strategy, index, corpora
):
    files = sorted(index.rglob("*"))
    name = strategy.rpartition("+")[2]
    with pytest.raises(InputError, match=rf"--strategy {name} .* --model\.head pawa"):
        update_index(index, corpora["new"], dataclasses.replace(GENERATIVE, strategy=strategy))
    assert sorted(index.rglob("*")) == files
    # They are refused for other documents, too, and if none are new.
    with pytest.raises(InputError, match=r"--model\.head pawa"):
        update_index(index, corpora["old"], dataclasses.replace(GENERATIVE, strategy=strategy))
