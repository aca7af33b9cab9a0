"""A parametric memory: which rows an update moves, and what it finds and keeps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import growing_corpus
import pytest
import torch
from growing_corpus import NEW, OLD, found
from small import weights
from test_encoder_decoders import assert_searched_as_by_hand

from data_prep.errors import InputError
from dsi import Index
from dsi.backbones.output_states import map_of
from dsi.cli import main
from dsi.index_folder import versions
from dsi.updating.options import KernelOptions, PamtOptions, UpdateOptions
from dsi.updating.strategies.pamt import most_specific
from dsi.updating.strategy_parsing import refuse_unused
from dsi.updating.strategy_state import read_strategy_state
from dsi.updating.update import update_index

PAMT = UpdateOptions(strategy="pamt", generator="extractive")


def test_rows_read_now_and_rarely_before_are_moved():
    now = torch.tensor([4.0, 6.0, 1.0, 0.0, 3.0]).double()
    before = torch.tensor([7.0, 2.0, 0.0, 0.0, 0.0]).double()
    # 4 / 8, 6 / 3, 1 / 1, 0 / 1, 3 / 1
    assert most_specific(now, before, 3).tolist() == [4, 1, 2]
    assert most_specific(now, before, 9).tolist() == [4, 1, 2, 0], "not one that nobody reads"


@pytest.fixture
def index(memorized, tmp_path):
    return Path(shutil.copytree(memorized("semantic"), tmp_path / "index"))


def live(index: Path) -> Path:
    return versions.folder(index, versions.live(index))


def test_new_documents_are_found_and_old_ones_kept_better_than_by_finetuning(
    memorized, index, corpora, tmp_path
):
    before = Index.open(index, "cpu").model.state_dict()
    known = found(index, corpora["full"], OLD, k=1)
    done = update_index(index, corpora["new"], PAMT)
    assert 0 < done.manifest.metrics["moved"] <= 64
    opened = Index.open(index, "cpu")
    assert_searched_as_by_hand(opened)
    for name, value in before.items():  # nothing of the network has moved but rows
        if name not in ("lm_head.weight", "shared.weight") and "embed_tokens" not in name:
            assert torch.equal(opened.model.state_dict()[name], value)
    values = map_of(opened.model).values
    assert int(values.any(dim=1).sum()) == done.manifest.metrics["moved"]
    assert found(index, corpora["full"], NEW, k=5) >= 0.8
    kept = found(index, corpora["full"], OLD, k=1)
    plain = Path(shutil.copytree(memorized("semantic"), tmp_path / "plain"))
    update_index(plain, corpora["new"], UpdateOptions(strategy="finetune", steps=20))
    assert kept >= known - 0.3
    assert kept > found(plain, corpora["full"], OLD, k=1) + 0.3
    again = Path(shutil.copytree(memorized("semantic"), tmp_path / "again"))
    update_index(again, corpora["new"], PAMT)
    assert weights(again) == weights(index)


def test_updates_add_up_and_a_rollback_drops_them(index, corpora, tmp_path, capsys):
    parts = [
        growing_corpus.part(corpora["full"], tmp_path / name, numbers, ("test",))
        for name, numbers in (("first", range(30, 35)), ("second", range(35, 40)))
    ]
    update_index(index, parts[0], PAMT)
    first = map_of(Index.open(index, "cpu").model).values.clone()
    reads = read_strategy_state(live(index), "pamt")["reads"]
    update_index(index, parts[1], PAMT)
    state = read_strategy_state(live(index), "pamt")
    assert (state["reads"] >= reads).all()
    assert (state["reads"] > reads).any()
    second = map_of(Index.open(index, "cpu").model).values
    moved = (second != first).any(dim=1)
    assert 0 < int(moved.sum()) <= 64
    assert found(index, corpora["full"], NEW) >= 0.7
    assert main(["info", str(index)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "states and a memory of 1,024 rows (strategy pamt)" in said
    assert main(["delete", str(index), "d31", "--scrub"]) == 0
    assert_searched_as_by_hand(Index.open(index, "cpu"))
    assert main(["export", str(index), "--format", "hf", "--out", str(tmp_path / "hf")]) == 2
    assert "--strategy pamt adds before the output layer" in capsys.readouterr().err
    versions.rollback(index)
    versions.rollback(index)
    assert torch.equal(map_of(Index.open(index, "cpu").model).values, first)
    versions.rollback(index)
    assert map_of(Index.open(index, "cpu").model) is None


def test_what_does_not_fit_is_refused(index, corpora, tmp_path):
    with pytest.raises(InputError, match="pamt and ewc cannot be combined"):
        update_index(index, corpora["new"], UpdateOptions(strategy="pamt+ewc"))
    with pytest.raises(InputError, match="without the strategy pamt"):
        refuse_unused(UpdateOptions(strategy="edit", pamt=PamtOptions(rows=3)))
    update_index(index, corpora["new"], PAMT)
    fourier = UpdateOptions(strategy="kernel", kernel=KernelOptions(features="fourier"))
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps({"doc_id": "x", "title": "tea", "text": "tea and pens"}) + "\n")
    words = ["update", str(index), str(file), "--strategy", "kernel"]
    assert main([*words, "--kernel.features", fourier.kernel.features]) == 2
    assert versions.live(index) == "0002"
