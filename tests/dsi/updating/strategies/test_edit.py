"""Closed-form edits: the solution against numpy, and updates that use it."""

from __future__ import annotations

import shutil
from pathlib import Path

import growing_corpus
import numpy as np
import pytest
import torch
from growing_corpus import NEW, OLD, found
from test_encoder_decoders import assert_searched_as_by_hand

from data_prep.errors import InputError
from dsi import Index
from dsi.backbones.position_edits import edited_layer, place_of
from dsi.cli import main
from dsi.index_folder import versions
from dsi.updating.delete import delete_documents
from dsi.updating.options import EditOptions, UpdateOptions
from dsi.updating.strategy_state import read_strategy_state
from dsi.updating.structures.closed_form import (
    Moments,
    fingerprint,
    solved,
    wanted_changes,
    without_keys,
)
from dsi.updating.update import update_index


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("lam", [0.1, 10.0, 1000.0])
def test_the_edit_solves_the_regularized_least_squares(lam):
    keys, delta, old = (draw(n, m, seed=n).double() for n, m in ((7, 5), (7, 3), (40, 5)))
    delta = draw(7, 3, seed=1).double()
    second = old.T @ old / 40
    found_edit = solved(keys.T @ keys, delta.T @ keys, second, lam)
    # The same as one least-squares problem: rows for new keys, rows for old ones, and the ridge.
    held = second.numpy() + 1e-4 * second.numpy().diagonal().mean() * np.eye(5)
    system = np.concatenate([keys.numpy(), np.sqrt(lam) * np.linalg.cholesky(held).T])
    wanted = np.concatenate([delta.numpy(), np.zeros((5, 3))])
    by_hand = np.linalg.lstsq(system, wanted, rcond=None)[0].T
    np.testing.assert_allclose(found_edit.numpy(), by_hand, rtol=1e-9, atol=1e-12)


def test_a_greater_weight_of_old_keys_moves_their_outputs_less():
    keys, delta, old = draw(4, 8), draw(4, 3, seed=1), draw(50, 8, seed=2)
    second = (old.T @ old / 50).double()
    moves = [
        float((old.double() @ solved(
            (keys.T @ keys).double(), (delta.T @ keys).double(), second, lam
        ).T).norm())
        for lam in (1.0, 10.0, 100.0)
    ]  # fmt: skip
    assert moves == sorted(moves, reverse=True)
    assert moves[0] > 5 * moves[2]


def test_moments_of_batches_are_those_of_the_whole():
    keys = draw(11, 4).double()
    one, two = Moments.none(2, 4), Moments.none(1, 4)
    one.add(1, keys[:3])
    one.add(1, keys[3:7])
    two.add(0, keys[7:])
    merged = Moments(two.seconds.repeat(2, 1, 1), two.counts.repeat(2))
    one.merge(1, merged)
    torch.testing.assert_close(one.seconds[1], keys.T @ keys / 11)
    assert one.counts.tolist() == [0, 11]
    longer = one.lengthened(3)
    assert longer.counts.tolist() == [0, 11, 0]
    assert not longer.seconds[2].any()


def test_what_is_taken_out_of_an_edit_has_no_effect_and_the_rest_changes_least():
    edit, old = draw(3, 6).double(), draw(60, 6, seed=1).double()
    second, gone = old.T @ old / 60, draw(2, 6, seed=2).double()
    left = without_keys(edit, gone, second)
    assert (left @ gone.T).abs().max() < 1e-9
    held = second + 1e-4 * second.diagonal().mean() * torch.eye(6, dtype=torch.float64)

    def cost(other: torch.Tensor) -> float:
        return float(((other - edit) @ held @ (other - edit).T).trace())

    # Any other edit without effect on these keys costs more.
    away = torch.linalg.qr(gone.T, mode="complete")[0][:, 2:]
    for seed in range(5):
        other = left + 0.1 * draw(3, 4, seed=seed).double() @ away.T
        assert (other @ gone.T).abs().max() < 1e-9
        assert cost(other) > cost(left)


@pytest.fixture
def index(memorized, tmp_path):
    return Path(shutil.copytree(memorized("semantic"), tmp_path / "index"))


EDIT = UpdateOptions(strategy="edit", generator="extractive", per_doc=8)


def live(index: Path) -> Path:
    return versions.folder(index, versions.live(index))


def test_new_documents_are_found_and_old_ones_kept(index, corpora):
    before = Index.open(index, "cpu").model.state_dict()
    known = found(index, corpora["full"], OLD)
    assert known > 0.8
    done = update_index(index, corpora["new"], EDIT)
    assert done.manifest.metrics["edited"] == 10
    assert done.manifest.metrics["new queries found"] >= 80
    assert found(index, corpora["full"], NEW, k=5) >= 0.8
    assert found(index, corpora["full"], OLD) >= known - 0.1
    opened = Index.open(index, "cpu")
    assert_searched_as_by_hand(opened)
    layer = edited_layer(opened.model)
    assert layer.edit.any()
    # Nothing of the network has moved but rows.
    after = opened.model.state_dict()
    rows = {"lm_head.weight", "shared.weight"}
    for name, value in before.items():
        if name not in rows and "embed_tokens" not in name:
            assert torch.equal(after[name], value)
        else:
            assert torch.equal(after[name][: len(value)], value)


def test_a_wanted_change_makes_the_code_probable(index):
    model = Index.open(index, "cpu").model
    place = place_of(model)
    outputs, states = draw(6, 256), draw(6, 256, seed=1) * 3
    codes = torch.arange(2, 8)
    options = {"steps": 30, "rate": 0.5, "distance": 0.2, "enough": 0.9}
    wanted = wanted_changes(model, place, outputs, states, codes, None, **options)
    logits = model.lm_head(place.norm(states + wanted))
    assert (logits.softmax(-1).gather(1, codes[:, None]) > 0.5).all()
    allowed = torch.zeros(6, logits.shape[1], dtype=torch.bool)
    allowed[torch.arange(6), codes] = True  # nothing else is possible
    assert not wanted_changes(model, place, outputs, states, codes, allowed, **options).any()


def test_edits_add_up_and_a_rollback_drops_them(index, corpora, tmp_path):
    parts = [
        growing_corpus.part(corpora["full"], tmp_path / name, numbers, ("test",))
        for name, numbers in (("first", range(30, 35)), ("second", range(35, 40)))
    ]
    update_index(index, parts[0], EDIT)
    first = edited_layer(Index.open(index, "cpu").model).edit.clone()
    counts = read_strategy_state(live(index), "edit")["counts"]
    update_index(index, parts[1], EDIT)
    state = read_strategy_state(live(index), "edit")
    assert state["documents"].tolist() == [5, 5]
    assert (state["counts"] > counts).any()
    second = edited_layer(Index.open(index, "cpu").model).edit
    assert not torch.equal(second, first)
    assert found(index, corpora["full"], NEW) >= 0.7
    versions.rollback(index)
    assert torch.equal(edited_layer(Index.open(index, "cpu").model).edit, first)
    versions.rollback(index)
    assert edited_layer(Index.open(index, "cpu").model) is None


def test_the_old_keys_are_stored_until_the_network_moves(index, corpora, tmp_path):
    update_index(index, corpora["new"], EDIT)
    state = read_strategy_state(live(index), "edit")
    model = Index.open(index, "cpu").model
    assert torch.equal(state["fingerprint"], fingerprint(model))
    assert state["counts"][0] > 10
    with torch.no_grad():
        model.lm_head.weight[3] += 1  # a row is not what keys depend on
    assert torch.equal(state["fingerprint"], fingerprint(model))
    with torch.no_grad():
        place_of(model).layer.weight[0, 0] += 1
    assert not torch.equal(state["fingerprint"], fingerprint(model))
    # An edited index can be trained further; its edits stay, and are not trained.
    edit = edited_layer(model).edit.clone()
    shutil.rmtree(tmp_path / "again", ignore_errors=True)
    changed = growing_corpus.part(corpora["full"], tmp_path / "again", range(3), ())
    assert len(changed.doc_ids) == 3
    delete_documents(index, ["d0", "d1", "d2"], audit=False)
    update_index(index, changed, UpdateOptions(strategy="generative", steps=2))
    assert torch.equal(edited_layer(Index.open(index, "cpu").model).edit, edit)


def test_info_shows_the_edits(index, corpora, capsys):
    update_index(index, corpora["new"], EDIT)
    assert main(["info", str(index), "--json"]) == 0
    out = capsys.readouterr().out
    import json

    edits = json.loads(out)["edits"]
    assert edits["documents"] == [10]
    assert edits["layer"].endswith("DenseReluDense.wo")
    assert len(edits["change"]) == len(edited_layer(Index.open(index, "cpu").model).edit)


def test_what_does_not_fit_is_refused(memorized, corpora, tmp_path):
    index = Path(shutil.copytree(memorized("semantic"), tmp_path / "index"))
    with pytest.raises(InputError, match="edit and ewc cannot be combined"):
        update_index(index, corpora["new"], UpdateOptions(strategy="edit+ewc"))
    with pytest.raises(InputError, match="enough"):
        EditOptions(enough=1.0)
    with pytest.raises(InputError, match="--edit"):
        EditOptions(lam=-1.0)
    assert versions.names(index) == ["0001"]


def test_a_scrub_takes_out_the_edit_of_deleted_documents(index, corpora):
    update_index(index, corpora["new"], EDIT)
    before = Index.open(index, "cpu")
    gone = ["d31", "d34"]
    done = delete_documents(index, gone, scrub=True)
    assert done.scrubbed.edited == len(edited_layer(before.model).edit)
    assert done.scrubbed.rows >= 2
    assert done.after.returned == done.audit.returned == 0
    assert done.after.ten < done.audit.ten
    assert versions.Manifest.load(live(index)).metrics["audit after"] == vars(done.after)
    opened = Index.open(index, "cpu")
    assert_searched_as_by_hand(opened)
    kept = [number for number in NEW if f"d{number}" not in gone]
    assert found(index, corpora["full"], kept, k=5) >= 0.6
    # The rows of codes that only deleted documents had say nothing of them any more.
    lasts = opened.table.last_codes(opened.table.find(["d1"]))
    rows = opened.model.lm_head.weight
    codes = [int(before.table.sequence(before.table.row_of(each))[-1]) for each in gone]
    assert torch.equal(rows[codes[0]], rows[codes[1]])
    assert torch.equal(rows[int(lasts[0])], before.model.lm_head.weight[int(lasts[0])])


def test_a_scrub_trains_away_what_is_not_closed_form(index, corpora):
    """The documents of the first training were never edited: only training has put them there."""
    gone = ["d3", "d5"]
    done = delete_documents(index, gone, scrub=True, scrub_steps=15)
    assert done.scrubbed.edited == 0
    assert done.scrubbed.steps == 15
    assert done.after.ten < done.audit.ten
    kept = [number for number in OLD if f"d{number}" not in gone]
    assert found(index, corpora["full"], kept) >= 0.7
    with pytest.raises(InputError, match="no effect without --scrub"):
        delete_documents(index, ["d7"], scrub_steps=5)
