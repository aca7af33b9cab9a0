"""Optimisers, learning rates at steps computed by hand, and what options refuse."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from data_prep.errors import InputError
from dsi.backbone import from_scratch
from dsi.training.optimisers import learning_rate, make_optimiser, set_learning_rate
from dsi.training.options import LoopOptions, MixOptions, ModelOptions, OptimiserOptions


def model():
    return from_scratch("tiny", text_vocabulary=11, alphabet_size=7, documents=5)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", {4: 1.0, 8: 1.0, 12: 1.0, 19: 1.0}),
        ("linear", {4: 1.0, 8: 0.75, 12: 0.5, 19: 1 / 16}),
        ("cosine", {4: 1.0, 8: 0.5 + math.sqrt(0.125), 12: 0.5, 16: 0.5 - math.sqrt(0.125)}),
        ("inverse-sqrt", {4: 1.0, 9: 2 / 3, 16: 0.5}),
    ],
)
def test_every_schedule_after_four_steps_of_warm_up(schedule, expected):
    options = OptimiserOptions(lr=2.0, warmup=4, schedule=schedule)
    rates = [learning_rate(options, step, 20) for step in range(20)]
    assert rates[:4] == pytest.approx([0.4, 0.8, 1.2, 1.6])
    for step, share in expected.items():
        assert rates[step] == pytest.approx(2 * share), step
    assert all(rate > 0 for rate in rates)
    assert all(later <= rate for rate, later in pairwise(rates[4:]))


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "inverse-sqrt"])
@pytest.mark.parametrize("warmup", [0, 3, 50])
def test_any_warm_up_gives_rates_within_the_highest(schedule, warmup):
    options = OptimiserOptions(lr=1e-3, warmup=warmup, schedule=schedule)
    rates = [learning_rate(options, step, 10) for step in range(10)]
    assert all(0 < rate <= 1e-3 for rate in rates)
    if not warmup:
        assert rates[0] == 1e-3


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_two_groups_hold_every_weight_once(name):
    network = model()
    optimiser = make_optimiser(network, OptimiserOptions(name=name, body=0.1, lr=0.5))
    rows, body = optimiser.param_groups
    assert {tuple(weight.shape) for weight in rows["params"]} == {(11, 256), (7, 256)}
    assert len(rows["params"]) == 3
    found = [id(weight) for group in (rows, body) for weight in group["params"]]
    assert sorted(found) == sorted(map(id, network.parameters()))
    set_learning_rate(optimiser, 0.4)
    assert rows["lr"] == pytest.approx(0.4)
    assert body["lr"] == pytest.approx(0.04)


def test_frozen_weights_are_left_out():
    network = model()
    for weight in network.get_encoder().parameters():
        weight.requires_grad = False
    optimiser = make_optimiser(network, OptimiserOptions())
    given = sum(len(group["params"]) for group in optimiser.param_groups)
    assert given == sum(weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
@pytest.mark.parametrize("body", [0.0, 1.0])
def test_a_step_moves_the_groups_that_have_a_rate(name, body):
    network = model()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimiser = make_optimiser(network, OptimiserOptions(name=name, body=body))
    set_learning_rate(optimiser, 1e-2)
    ids = torch.tensor([[3, 4]])
    network(input_ids=ids, decoder_input_ids=torch.tensor([[0]])).logits.square().sum().backward()
    optimiser.step()
    after = network.state_dict()
    assert not torch.equal(before["lm_head.weight"], after["lm_head.weight"])
    name_of_body = "decoder.block.0.layer.2.DenseReluDense.wo.weight"
    assert torch.equal(before[name_of_body], after[name_of_body]) == (not body)


def test_weight_decay_and_beta2_reach_the_optimiser():
    optimiser = make_optimiser(model(), OptimiserOptions(weight_decay=0.25, beta2=0.5))
    assert {group["weight_decay"] for group in optimiser.param_groups} == {0.25}
    assert {group["betas"] for group in optimiser.param_groups} == {(0.9, 0.5)}


@pytest.mark.parametrize(
    ("group", "values", "named"),
    [
        (OptimiserOptions, {"name": "sgd"}, "--optimiser.name 'sgd'"),
        (OptimiserOptions, {"schedule": "step"}, "--optimiser.schedule 'step'"),
        (OptimiserOptions, {"lr": 0.0}, "--optimiser.lr 0.0"),
        (OptimiserOptions, {"lr": math.nan}, "--optimiser.lr nan"),
        (OptimiserOptions, {"lr": math.inf}, "--optimiser.lr inf"),
        (OptimiserOptions, {"clip": -1.0}, "--optimiser.clip -1.0"),
        (OptimiserOptions, {"clip": math.nan}, "--optimiser.clip nan"),
        (OptimiserOptions, {"weight_decay": math.inf}, "--optimiser.weight_decay inf"),
        (OptimiserOptions, {"warmup": -1}, "--optimiser.warmup -1"),
        (OptimiserOptions, {"body": -0.1}, "--optimiser.body -0.1"),
        (OptimiserOptions, {"beta2": 1.0}, "--optimiser.beta2 1.0"),
        (LoopOptions, {"steps": 0}, "--loop.steps 0"),
        (LoopOptions, {"batch": 0}, "--loop.batch 0"),
        (LoopOptions, {"beams": 0}, "--loop.beams 0"),
        (LoopOptions, {"accumulation": 8, "batch": 4}, "--loop.accumulation 8"),
        (LoopOptions, {"precision": "fp16"}, "--loop.precision 'fp16'"),
        (LoopOptions, {"label_smoothing": 1.0}, "--loop.label_smoothing 1.0"),
        (LoopOptions, {"label_smoothing": math.nan}, "--loop.label_smoothing nan"),
        (LoopOptions, {"checkpoint_every": -1}, "--loop.checkpoint_every -1"),
        (LoopOptions, {"evaluate_every": -1}, "--loop.evaluate_every -1"),
        (MixOptions, {"pseudo": -0.1}, "--mix.pseudo -0.1"),
        (MixOptions, {"pseudo": math.nan}, "--mix.pseudo nan"),
        (MixOptions, {"indexing": math.inf}, "--mix.indexing inf"),
        (MixOptions, {"pseudo": 0.0, "labelled": 0.0}, "--mix.pseudo and --mix.labelled"),
        (MixOptions, {"negatives": "some"}, "--mix.negatives 'some'"),
        (MixOptions, {"query_length": 0}, "--mix.query_length 0"),
        (MixOptions, {"document_length": 0}, "--mix.document_length 0"),
        (MixOptions, {"chunks": -1}, "--mix.chunks -1"),
        (ModelOptions, {"dropout": 1.0}, "--model.dropout 1.0"),
        (ModelOptions, {"size": "huge"}, "--model.size 'huge'"),
        (ModelOptions, {"warm_start": "hot"}, "--model.warm_start 'hot'"),
        (ModelOptions, {"warm_start": "spectral", "pretrained": "x"}, "--model.pretrained"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_option(group, values, named):
    with pytest.raises(InputError) as refused:
        group(**values)
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_warm_start_that_fits_is_chosen():
    assert ModelOptions().start == "spectral"
    assert ModelOptions(size="tiny").start == "none"
    assert ModelOptions(pretrained="x").start == "encodings"
    assert ModelOptions(size="tiny", warm_start="spectral").start == "spectral"


def test_intervals_follow_the_number_of_steps():
    assert LoopOptions(steps=400).evaluation_interval == 100
    assert LoopOptions(steps=400).checkpoint_interval == 50
    assert LoopOptions(steps=3).evaluation_interval == 1
    assert LoopOptions(steps=3).checkpoint_interval == 1
    assert LoopOptions(steps=400, evaluate_every=7).evaluation_interval == 7
    assert LoopOptions(steps=400, checkpoint_every=9).checkpoint_interval == 9
