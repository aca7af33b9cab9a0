"""Groups of weights move exactly when they are due."""

from __future__ import annotations

import shutil
from pathlib import Path

import growing_corpus
import pytest
import torch
from growing_corpus import OLD, StopError, found, stopping
from small import weights, with_groups
from transformers import T5Config, T5ForConditionalGeneration

from data_prep.errors import InputError
from dsi import Index
from dsi.backbones.backbone import set_docid_alphabet
from dsi.cli import main
from dsi.index_folder import versions
from dsi.indexing.build import train_index
from dsi.training.options import OptimizerOptions
from dsi.updating.options import PeriodsOptions, UpdateOptions
from dsi.updating.strategies.periods import periods_of
from dsi.updating.strategy_parsing import refuse_unused
from dsi.updating.strategy_state import read_strategy_state
from dsi.updating.update import update_index

PERIODS = UpdateOptions(strategy="generative+periods", steps=6, lr=1e-3)


def test_the_period_doubles_from_layer_to_layer():
    shape = {"d_model": 8, "d_kv": 4, "num_heads": 2, "d_ff": 8, "vocab_size": 9}
    config = T5Config(**shape, num_layers=3, num_decoder_layers=2)
    model = set_docid_alphabet(T5ForConditionalGeneration(config), 9, 7)
    names = {id(weight): name for name, weight in model.named_parameters()}
    found = {names[id(weight)]: period for weight, period in periods_of(model, 2, 4)}
    assert set(found) == set(names.values())
    expected = {
        "encoder.block.0.layer.1.DenseReluDense.wi.weight": 4,  # 8, but for the longest
        "encoder.block.1.layer.1.DenseReluDense.wi.weight": 4,
        "encoder.block.2.layer.1.DenseReluDense.wi.weight": 2,
        "decoder.block.0.layer.0.SelfAttention.q.weight": 4,
        "decoder.block.1.layer.0.SelfAttention.q.weight": 2,
        "decoder.final_layer_norm.weight": 2,
        "lm_head.weight": 1,
    }
    assert {name: found[name] for name in expected} == expected
    assert all(found[name] == 1 for name in found if "embed" in name or "shared" in name)


@pytest.fixture
def index(memorized, tmp_path):
    return Path(shutil.copytree(memorized("semantic"), tmp_path / "index"))


def network(index: Path) -> dict[str, torch.Tensor]:
    """All weights but rows of tokens and codes."""
    rows = ("lm_head", "shared", "embed_tokens")
    model = Index.open(index, "cpu").model
    return {name: w for name, w in model.named_parameters() if not name.startswith(rows)
            and "embed_tokens" not in name}  # fmt: skip


def test_layers_move_at_every_second_update_and_rows_at_each(index, corpora, tmp_path, capsys):
    parts = [
        growing_corpus.part(corpora["full"], tmp_path / str(start), range(start, start + 3), ())
        for start in (30, 33, 36)
    ]
    before = network(index)
    rows = Index.open(index, "cpu").model.lm_head.weight
    for number, part in enumerate(parts, start=1):
        if number == 2:  # one of another strategy between them does not count
            update_index(index, part, UpdateOptions(strategy="append"))
        else:
            update_index(index, part, PERIODS)
        after, now = network(index), Index.open(index, "cpu").model.lm_head.weight
        moved = {name for name in after if not torch.equal(after[name], before[name])}
        assert (moved == set()) == (number < 3), moved
        assert not torch.equal(now[: len(rows)], rows) or number == 2
        before, rows = after, now
    state = read_strategy_state(versions.folder(index, versions.live(index)), "periods")
    assert state["updates"].tolist() == [2]
    assert main(["info", str(index)]) == 0
    assert "updates by periods 2" in " ".join(capsys.readouterr().out.split())
    versions.rollback(index)
    live = versions.folder(index, versions.live(index))
    assert read_strategy_state(live, "periods")["updates"].tolist() == [1]


def test_slow_layers_keep_what_finetuning_forgets(memorized, index, corpora, tmp_path):
    """The first update of a network that has memorized the old documents moves rows alone."""
    plain = Path(shutil.copytree(memorized("semantic"), tmp_path / "plain"))
    update_index(plain, corpora["new"], UpdateOptions(strategy="finetune", steps=20))
    options = UpdateOptions(strategy="finetune+periods", steps=20)
    with pytest.raises(StopError):
        update_index(index, corpora["new"], options, callbacks=stopping(7))
    update_index(index, corpora["new"], options)
    kept, lost = (found(each, corpora["full"], OLD, k=1) for each in (index, plain))
    assert kept >= lost
    alone = Path(shutil.copytree(memorized("semantic"), tmp_path / "alone"))
    update_index(alone, corpora["new"], options)
    assert weights(alone) == weights(index)


def test_what_does_not_fit_is_refused(corpora, tmp_path):
    with pytest.raises(InputError, match="periods and lora cannot be combined"):
        refuse_unused(UpdateOptions(strategy="generative+periods+lora"))
    with pytest.raises(InputError, match="without the strategy periods"):
        refuse_unused(UpdateOptions(strategy="generative", periods=PeriodsOptions(every=3)))
    with pytest.raises(InputError, match="every 1 is less than 2"):
        PeriodsOptions(every=1)
    decay = {"optimizer": OptimizerOptions(weight_decay=0.1)}
    train_index(corpora["old"], tmp_path / "index", with_groups(decay, {"loop__steps": 1}))
    with pytest.raises(InputError, match="periods and a weight decay"):
        update_index(tmp_path / "index", corpora["new"], PERIODS)
    assert versions.names(tmp_path / "index") == ["0001"]
