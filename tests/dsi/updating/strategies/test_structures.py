"""Strategies that change the network or the batches, from the update to the new version."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import growing_corpus
import pytest
from growing_corpus import NEW, OLD, StopError, found, stopping
from small import weights

from data_prep.errors import InputError
from dsi import Index
from dsi.backbones.backbone import load_backbone
from dsi.index_folder import versions
from dsi.updating.delete import delete_documents
from dsi.updating.options import (
    AdapterOptions,
    InterpolationOptions,
    LocasOptions,
    RegLoraOptions,
    UpdateOptions,
)
from dsi.updating.strategy_parsing import refuse_unused
from dsi.updating.strategy_state import read_strategy_state
from dsi.updating.update import update_index

pytest.importorskip("peft")

QUICK = UpdateOptions(strategy="generative", steps=8, ratio=0.0)
JOINED = ["lora", "i-lora", "reglora", "locas"]


def copy_of(index, folder):
    return Path(shutil.copytree(index, folder))


def live(index: Path) -> Path:
    return versions.folder(index, versions.live(index))


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
@pytest.mark.parametrize("joined", JOINED)
def test_interrupted_or_not_an_update_ends_in_the_same_weights(
    joined, kind, trained, corpora, tmp_path
):
    options = dataclasses.replace(QUICK, strategy=f"generative+{joined}", lr=1e-3)
    alone = copy_of(trained(kind), tmp_path / "alone")
    update_index(alone, corpora["new"], options)
    assert found(alone, corpora["full"], NEW) >= (0.9 if kind == "atomic" else 0.7)
    assert found(alone, corpora["full"], OLD) >= (0.9 if kind == "atomic" else 0.6)
    index = copy_of(trained(kind), tmp_path / "index")
    with pytest.raises(StopError):
        update_index(index, corpora["new"], options, callbacks=stopping(4))
    assert sorted((index / "updating" / "checkpoints").iterdir())
    update_index(index, corpora["new"], options)
    assert weights(index) == weights(alone)
    plain = copy_of(trained(kind), tmp_path / "plain")
    update_index(plain, corpora["new"], dataclasses.replace(options, strategy="generative"))
    assert weights(plain) != weights(alone)
    names = [name for name, _ in load_backbone(live(alone) / "model").named_parameters()]
    assert names == [name for name, _ in load_backbone(live(plain) / "model").named_parameters()]


@pytest.mark.parametrize(
    "strategy",
    ["episodic+lora", "generative+episodic+warm-up", "generative+ewc+reglora+distill"],
)
def test_they_join_with_others(strategy, index, corpora):
    done = update_index(index, corpora["new"], dataclasses.replace(QUICK, strategy=strategy))
    assert done.wrote
    assert found(index, corpora["full"], NEW) >= 0.9


@pytest.mark.parametrize("strategy", ["generative+lora+locas", "generative+lora+reglora"])
def test_two_structures_are_refused(strategy, index, corpora):
    with pytest.raises(InputError, match="cannot be combined"):
        update_index(index, corpora["new"], dataclasses.replace(QUICK, strategy=strategy))


@pytest.mark.parametrize(
    ("strategy", "change"),
    [
        ("lora", {"lora": AdapterOptions(rank=2)}),
        ("lora", {"lora": AdapterOptions(alpha=1)}),
        ("lora", {"lora": AdapterOptions(dropout=0.5)}),
        ("i-lora", {"i_lora": InterpolationOptions(merge="slow")}),
        ("i-lora", {"i_lora": InterpolationOptions(rate=0.1)}),
        ("i-lora", {"i_lora": InterpolationOptions(weight=100.0)}),
        ("i-lora", {"i_lora": InterpolationOptions(target="larger", weight=100.0)}),
        ("locas", {"locas": LocasOptions(units=3)}),
        ("locas", {"locas": LocasOptions(end="drop")}),
    ],
    ids=str,
)
def test_every_option_has_an_effect(strategy, change, trained, corpora, tmp_path):
    options = dataclasses.replace(QUICK, strategy=f"generative+{strategy}", lr=1e-3, steps=6)
    plain = tmp_path.parent / f"plain_{strategy}"
    if not plain.exists():
        shutil.copytree(trained("atomic"), plain)
        update_index(plain, corpora["new"], options)
    index = copy_of(trained("atomic"), tmp_path / "index")
    update_index(index, corpora["new"], dataclasses.replace(options, **change))
    assert weights(plain) != weights(index)


def grow(index, corpora, tmp_path, *options):
    """Updates an index by one part of the new documents after another."""
    for number, asked in enumerate(options):
        some = range(30 + 5 * number, 35 + 5 * number)
        folder = tmp_path / f"part{number}"
        part = growing_corpus.part(corpora["full"], folder, some, ("test",))
        update_index(index, part, asked)
        shutil.rmtree(folder)


def test_marks_go_with_the_version_and_add_up(trained, corpora, tmp_path):
    options = dataclasses.replace(QUICK, strategy="generative+reglora", lr=1e-3)
    index = copy_of(trained("atomic"), tmp_path / "index")
    grow(index, corpora, tmp_path, options)
    first = read_strategy_state(live(index), "reglora")
    model = load_backbone(live(index) / "model")
    for name, marks in first.items():
        assert marks.shape == model.get_submodule(name).weight.shape
        assert marks.sum() <= round(0.02 * marks.numel())
    # Not in every layer: attention of a single code to itself has no gradient, except for rounding.
    assert sum(marks.sum() for marks in first.values()) > 0
    delete_documents(index, ["d3"], audit=False)
    assert read_strategy_state(live(index), "reglora").keys() == first.keys()
    more = growing_corpus.part(corpora["full"], tmp_path / "more", range(35, 40), ("test",))
    update_index(index, more, options)
    second = read_strategy_state(live(index), "reglora")
    assert all(second[name].sum() >= first[name].sum() for name in first)
    assert any(second[name].sum() > first[name].sum() for name in first)


def test_marks_keep_the_next_adapter_off(trained, corpora, tmp_path):
    options = dataclasses.replace(QUICK, strategy="generative+reglora", lr=1e-3)
    heavy = dataclasses.replace(options, reglora=RegLoraOptions(weight=1e6))
    ends = []
    for number, second in enumerate((options, heavy)):
        index = copy_of(trained("atomic"), tmp_path / f"index{number}")
        grow(index, corpora, tmp_path, options, second)
        ends.append(weights(index))
    assert ends[0] != ends[1]


def test_another_strategy_between_leaves_the_marks_and_retraining_does_not(
    trained, corpora, tmp_path
):
    options = dataclasses.replace(QUICK, strategy="generative+reglora", lr=1e-3)
    for strategy, there in (("generative", True), ("retrain", False)):
        index = copy_of(trained("atomic"), tmp_path / strategy)
        grow(index, corpora, tmp_path, options, dataclasses.replace(QUICK, strategy=strategy))
        assert bool(read_strategy_state(live(index), "reglora")) == there


def test_side_memories_become_units_of_the_network(index, corpora):
    before = load_backbone(live(index) / "model").config.d_ff
    options = dataclasses.replace(
        QUICK, strategy="generative+locas", locas=LocasOptions(units=5), lr=1e-3
    )
    update_index(index, corpora["new"], options)
    assert load_backbone(live(index) / "model").config.d_ff == before + 5
    assert len(Index.open(index, "cpu")) == 40


def test_a_removed_strategy_is_refused_by_its_name():
    said = r"the strategy 'view-batch' was removed: it lost accuracy"
    with pytest.raises(InputError, match=said) as refused:
        refuse_unused(UpdateOptions(strategy="generative+view-batch"))
    assert "Omit it from 'generative+view-batch'" in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (AdapterOptions, {"rank": 0}, r"--lora\.rank 0"),
        (AdapterOptions, {"dropout": 1.0}, r"--lora\.dropout 1\.0"),
        (InterpolationOptions, {"rate": 1.0}, r"--i_lora\.rate 1\.0"),
        (InterpolationOptions, {"merge": "both"}, r"--i_lora\.merge 'both'"),
        (RegLoraOptions, {"fraction": 0.0}, r"--reglora\.fraction 0\.0"),
        (LocasOptions, {"units": 0}, r"--locas\.units 0"),
        (LocasOptions, {"end": "keep"}, r"--locas\.end 'keep'"),
    ],
    ids=str,
)
def test_values_that_make_no_sense_are_refused(kind, values, said):
    with pytest.raises(InputError, match=said):
        kind(**values)


def test_options_of_an_adapter_need_one():
    with pytest.raises(InputError, match=r"--lora\.\* .* lora or i-lora or reglora"):
        refuse_unused(UpdateOptions(lora=AdapterOptions(rank=4)))
    for strategy in ("lora", "i-lora", "reglora"):
        refuse_unused(UpdateOptions(strategy=f"generative+{strategy}", lora=AdapterOptions(rank=4)))
