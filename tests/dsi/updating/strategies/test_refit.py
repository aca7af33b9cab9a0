"""The network and its rows computed anew from the documents: what is found, and what is left."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from growing_corpus import NEW, OLD, found, part
from small import weights

from data_prep.errors import InputError
from dsi import Index
from dsi.index_folder import versions
from dsi.training.options import ModelOptions
from dsi.updating.delete import delete_documents
from dsi.updating.options import RefitOptions, UpdateOptions
from dsi.updating.strategies.refit import network_of
from dsi.updating.strategy_parsing import refuse_unused
from dsi.updating.strategy_state import read_strategy_state
from dsi.updating.structures import softmax_regression
from dsi.updating.update import update_index

REFIT = UpdateOptions(
    strategy="refit",
    generator="extractive",
    per_doc=8,
    refit=RefitOptions(samples=8, subsets=8),
)
EDIT = UpdateOptions(strategy="edit", generator="extractive", per_doc=8)


@pytest.fixture
def index(memorized, tmp_path):
    return Path(shutil.copytree(memorized("semantic"), tmp_path / "index"))


def live(index: Path) -> Path:
    return versions.folder(index, versions.live(index))


def state_of(index: Path) -> dict[str, torch.Tensor]:
    return Index.open(index, "cpu").model.state_dict()


def test_new_documents_are_found_and_old_ones_kept(index, corpora):
    before = state_of(index)
    known = found(index, corpora["full"], OLD)
    done = update_index(index, corpora["new"], REFIT)
    assert done.manifest.metrics["steps"] == 0
    assert done.manifest.metrics["samples"] > 40
    assert set(done.timing["milliseconds a document"]) == {"warm start", "solving", "all"}
    assert found(index, corpora["full"], NEW) >= 0.9
    assert found(index, corpora["full"], OLD) >= known - 0.1
    after = state_of(index)
    attention = "decoder.block.0.layer.1.EncDecAttention.v.weight"
    assert not torch.equal(after[attention], before[attention]), "the network is another one"
    versions.rollback(index)
    assert torch.equal(state_of(index)[attention], before[attention])


def test_the_regression_moves_output_rows_and_nothing_else(index, corpora, tmp_path, monkeypatch):
    again = Path(shutil.copytree(index, tmp_path / "again"))
    update_index(index, corpora["new"], REFIT)

    def unsolved(blocks, start, lam, iterations):
        return start

    with monkeypatch.context() as patched:
        patched.setattr(softmax_regression, "softmax_rows", unsolved)
        update_index(again, corpora["new"], REFIT)
    solved, warm = state_of(index), state_of(again)
    different = {name for name, each in solved.items() if not torch.equal(each, warm[name])}
    assert different == {"lm_head.weight"}


def test_nothing_depends_on_the_weights_before(index, corpora, tmp_path):
    """The corpus alone decides, so that nothing is lost from update to update."""
    first, second = (
        part(corpora["full"], tmp_path / name, numbers, ("test",))
        for name, numbers in (("first", NEW[:5]), ("second", NEW[5:]))
    )
    edited = Path(shutil.copytree(index, tmp_path / "edited"))
    update_index(index, first, REFIT)
    update_index(edited, first, EDIT)
    assert not torch.equal(state_of(index)["lm_head.weight"], state_of(edited)["lm_head.weight"])
    assert read_strategy_state(live(edited), "edit")
    for each in (index, edited):
        update_index(each, second, REFIT)
        assert not read_strategy_state(live(each), "edit")
    assert weights(index) == weights(edited)


def test_rows_of_deleted_documents_are_gone(index, corpora):
    table = Index.open(index, "cpu").table
    code = int(table.last_codes(table.find(["d3"]))[0])
    delete_documents(index, ["d3"], audit=False)
    update_index(index, corpora["new"], REFIT)
    opened = Index.open(index, "cpu")
    assert not opened.model.lm_head.weight[code].any()
    assert opened.model.lm_head.weight[opened.table.last_codes(opened.table.live)].any(dim=1).all()


@pytest.mark.parametrize("network", [{"pretrained": "some/t5"}, {"encoder": "some/encoder"}])
def test_a_pretrained_network_is_refused(network):
    update = SimpleNamespace(training=SimpleNamespace(model=ModelOptions(**network)))
    with pytest.raises(InputError, match="that of this index was pretrained"):
        network_of(update)


def test_what_does_not_fit_is_refused(index, corpora):
    with pytest.raises(InputError, match="refit and ewc cannot be combined"):
        update_index(index, corpora["new"], UpdateOptions(strategy="refit+ewc"))
    with pytest.raises(InputError, match="without the strategy refit"):
        refuse_unused(UpdateOptions(strategy="kernel", refit=RefitOptions(samples=3)))
    with pytest.raises(InputError, match="steps 3"):
        refuse_unused(UpdateOptions(strategy="refit", steps=3))
