"""Optimizers, learning rates computed by hand, and refused options."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration

from data_prep.errors import InputError
from dsi.backbones.backbone import from_scratch, set_docid_alphabet
from dsi.data.options import MixOptions
from dsi.training.optimization.learning_rate_schedule import learning_rate, set_learning_rate
from dsi.training.optimization.lora import add_adapters
from dsi.training.optimization.optimizers import make_optimizer, parameter_groups
from dsi.training.options import LoopOptions, LoraOptions, ModelOptions, OptimizerOptions


def model():
    return from_scratch("tiny", text_vocabulary=11, alphabet_size=7)


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
    options = OptimizerOptions(lr=2.0, warmup=4, schedule=schedule)
    rates = [learning_rate(options, step, 20) for step in range(20)]
    assert rates[:4] == pytest.approx([0.4, 0.8, 1.2, 1.6])
    for step, share in expected.items():
        assert rates[step] == pytest.approx(2 * share), step
    assert all(rate > 0 for rate in rates)
    assert all(later <= rate for rate, later in pairwise(rates[4:]))


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "inverse-sqrt"])
@pytest.mark.parametrize("warmup", [0, 3, 50])
def test_any_warm_up_gives_rates_within_the_highest(schedule, warmup):
    options = OptimizerOptions(lr=1e-3, warmup=warmup, schedule=schedule)
    rates = [learning_rate(options, step, 10) for step in range(10)]
    assert all(0 < rate <= 1e-3 for rate in rates)
    if not warmup:
        assert rates[0] == 1e-3


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_two_groups_hold_every_weight_once(name):
    network = model()
    optimizer = make_optimizer(network, OptimizerOptions(name=name, backbone_lr_scale=0.1, lr=0.5))
    rows, backbone = optimizer.param_groups
    assert {tuple(weight.shape) for weight in rows["params"]} == {(11, 256), (7, 256)}
    assert len(rows["params"]) == 3
    found = [id(weight) for group in (rows, backbone) for weight in group["params"]]
    assert sorted(found) == sorted(map(id, network.parameters()))
    set_learning_rate(optimizer, 0.4)
    assert rows["lr"] == pytest.approx(0.4)
    assert backbone["lr"] == pytest.approx(0.04)


def test_frozen_weights_are_left_out():
    network = model()
    for weight in network.get_encoder().parameters():
        weight.requires_grad = False
    optimizer = make_optimizer(network, OptimizerOptions())
    given = sum(len(group["params"]) for group in optimizer.param_groups)
    assert given == sum(weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
@pytest.mark.parametrize("backbone", [0.0, 1.0])
def test_a_step_moves_the_groups_that_have_a_rate(name, backbone):
    network = model()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = make_optimizer(network, OptimizerOptions(name=name, backbone_lr_scale=backbone))
    set_learning_rate(optimizer, 1e-2)
    ids = torch.tensor([[3, 4]])
    network(input_ids=ids, decoder_input_ids=torch.tensor([[0]])).logits.square().sum().backward()
    optimizer.step()
    after = network.state_dict()
    assert not torch.equal(before["lm_head.weight"], after["lm_head.weight"])
    name_of_backbone = "decoder.block.0.layer.2.DenseReluDense.wo.weight"
    assert torch.equal(before[name_of_backbone], after[name_of_backbone]) == (not backbone)


def test_weight_decay_and_beta2_reach_the_optimizer():
    optimizer = make_optimizer(model(), OptimizerOptions(weight_decay=0.25, beta2=0.5))
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.25}
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.5)}


@pytest.mark.parametrize(
    ("group", "values", "named"),
    [
        (OptimizerOptions, {"name": "sgd"}, "--optimizer.name 'sgd'"),
        (OptimizerOptions, {"schedule": "step"}, "--optimizer.schedule 'step'"),
        (OptimizerOptions, {"lr": 0.0}, "--optimizer.lr 0.0"),
        (OptimizerOptions, {"lr": math.nan}, "--optimizer.lr nan"),
        (OptimizerOptions, {"lr": math.inf}, "--optimizer.lr inf"),
        (OptimizerOptions, {"clip": -1.0}, "--optimizer.clip -1.0"),
        (OptimizerOptions, {"clip": math.nan}, "--optimizer.clip nan"),
        (OptimizerOptions, {"weight_decay": math.inf}, "--optimizer.weight_decay inf"),
        (OptimizerOptions, {"warmup": -1}, "--optimizer.warmup -1"),
        (OptimizerOptions, {"backbone_lr_scale": -0.1}, "--optimizer.backbone_lr_scale -0.1"),
        (OptimizerOptions, {"rows": "few"}, "--optimizer.rows 'few'"),
        (OptimizerOptions, {"rows": "touched", "name": "adafactor"}, "--optimizer.name is adaf"),
        (OptimizerOptions, {"beta2": 1.0}, "--optimizer.beta2 1.0"),
        (LoopOptions, {"steps": -1}, "--loop.steps -1"),
        (LoopOptions, {"batch": 0}, "--loop.batch 0"),
        (LoopOptions, {"tokens": 0}, "--loop.tokens 0"),
        (LoopOptions, {"batch": 512, "tokens": 99}, "--loop.batch 512 and --loop.tokens 99"),
        (LoopOptions, {"accumulation": 513}, "--loop.accumulation 513"),
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
        (MixOptions, {"pseudo": 0.0, "labeled": 0.0}, "--mix.pseudo and --mix.labeled"),
        (MixOptions, {"negatives": "some"}, "--mix.negatives 'some'"),
        (MixOptions, {"query_length": 0}, "--mix.query_length 0"),
        (MixOptions, {"document_length": 0}, "--mix.document_length 0"),
        (MixOptions, {"chunks": -1}, "--mix.chunks -1"),
        (ModelOptions, {"dropout": 1.0}, "--model.dropout 1.0"),
        (ModelOptions, {"size": "huge"}, "--model.size 'huge'"),
        (ModelOptions, {"size": "lexical"}, "Use --model.size latent"),
        (ModelOptions, {"size": "lexical-context"}, "Use --model.size latent"),
        (ModelOptions, {"latent_weight": 0.0}, "--model.latent_weight 0.0"),
        (ModelOptions, {"size": "tiny", "latent_weight": 3.0}, "--model.latent_weight 3.0"),
        (ModelOptions, {"pretrained": "x", "latent_weight": 3.0}, "--model.latent_weight 3.0"),
        (ModelOptions, {"size": "tiny", "head": "mlp"}, "--model.head 'mlp'"),
        (ModelOptions, {"size": "tiny", "head_layers": 2}, "--model.head_layers 2"),
        (ModelOptions, {"size": "tiny", "head": "pawa", "head_layers": 0}, "head_layers 0"),
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


def test_a_step_has_512_examples_a_size_or_tokens():
    assert LoopOptions().size == 512
    assert LoopOptions(batch=7).size == 7
    assert LoopOptions(tokens=99).size is None
    assert LoopOptions(tokens=99).of_size(None, steps=3) == LoopOptions(tokens=99, steps=3)
    assert LoopOptions(tokens=99).of_size(5) == LoopOptions(batch=5)


def test_intervals_follow_the_number_of_steps():
    assert LoopOptions(steps=400).evaluation_interval == 100
    assert LoopOptions(steps=400).checkpoint_interval == 50
    assert LoopOptions(steps=3).evaluation_interval == 1
    assert LoopOptions(steps=3).checkpoint_interval == 1
    assert LoopOptions(steps=400, evaluate_every=7).evaluation_interval == 7
    assert LoopOptions(steps=400, checkpoint_every=9).checkpoint_interval == 9


def share_of(network, options):
    """Returns the share of the learning rate of each weight by name, 0 for a frozen one."""
    groups = parameter_groups(network, options)
    shares = {id(w): group["share"] for group in groups for w in group["params"]}
    found = {name: shares.get(id(w), 0.0) for name, w in network.named_parameters()}
    assert {name: share > 0 for name, share in found.items()} == {
        name: w.requires_grad for name, w in network.named_parameters()
    }
    return found


def test_layer_decay_lowers_the_rate_from_layer_to_layer():
    shares = share_of(model(), OptimizerOptions(backbone_lr_scale=0.5, layer_decay=0.1))
    assert shares["lm_head.weight"] == shares["shared.weight"] == 1.0
    assert shares["encoder.embed_tokens.weight"] == pytest.approx(0.01)
    for stack in ("encoder", "decoder"):
        q = f"{stack}.block.{{}}.layer.0.SelfAttention.q.weight"
        assert shares[q.format(1)] == pytest.approx(0.5)
        assert shares[q.format(0)] == pytest.approx(0.05)
        assert shares[f"{stack}.final_layer_norm.weight"] == pytest.approx(0.5)


def test_layer_decay_knows_the_layers_of_bart():
    config = BartConfig(
        vocab_size=9, d_model=16, encoder_layers=2, decoder_layers=3, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        max_position_embeddings=16,
    )  # fmt: skip
    network = set_docid_alphabet(BartForConditionalGeneration(config), 9, 7)
    shares = share_of(network, OptimizerOptions(backbone_lr_scale=1.0, layer_decay=0.1))
    assert shares["model.decoder.layers.0.fc1.weight"] == pytest.approx(0.01)
    assert shares["model.decoder.layers.2.fc1.weight"] == 1.0
    assert shares["model.encoder.layers.0.fc1.weight"] == pytest.approx(0.1)
    assert shares["model.encoder.embed_positions.weight"] == pytest.approx(0.01)
    assert shares["model.decoder.embed_positions.weight"] == pytest.approx(0.001)
    assert shares["model.encoder.layernorm_embedding.weight"] == pytest.approx(0.01)


def test_a_frozen_encoder_is_frozen_as_a_whole():
    network = model()
    shares = share_of(network, OptimizerOptions(backbone_lr_scale=0.5, freeze_encoder=True))
    for name, share in shares.items():
        assert (share == 0.0) == name.startswith("encoder."), name
    for weight in network.parameters():
        weight.requires_grad_(True)
    plain = share_of(network, OptimizerOptions(backbone_lr_scale=0.5))
    assert all(plain.values())


def test_rows_of_codes_can_rest():
    shares = share_of(model(), OptimizerOptions(backbone_lr_scale=0.5, rows="frozen"))
    for name, share in shares.items():
        assert (share == 0.0) == (name in ("lm_head.weight", "shared.weight")), name


def test_of_the_decoder_the_reading_of_the_text_alone_can_move():
    options = OptimizerOptions(backbone_lr_scale=0.5, decoder="cross-attention")
    for name, share in share_of(model(), options).items():
        rests = name.startswith("decoder.") and ".EncDecAttention." not in name
        assert (share == 0.0) == rests, name


def test_adapters_move_in_place_of_the_backbone():
    pytest.importorskip("peft")
    network = model()
    add_adapters(network, LoraOptions(rank=2, targets=["q", "v"]), seed=0)
    shares = share_of(network, OptimizerOptions(backbone_lr_scale=0.5, layer_decay=0.1))
    for name, share in shares.items():
        rows = name in ("lm_head.weight", "shared.weight", "encoder.embed_tokens.weight")
        assert (share > 0) == (rows or "lora_" in name), name
    top = "decoder.block.1.layer.1.EncDecAttention.q.lora_A.default.weight"
    assert shares[top] == pytest.approx(0.5)
    assert shares[top.replace("block.1", "block.0")] == pytest.approx(0.05)


def test_all_frozen_is_told():
    network = model()
    network.get_output_embeddings().weight = network.get_encoder().get_input_embeddings().weight
    network.get_decoder().set_input_embeddings(network.get_encoder().get_input_embeddings())
    network.shared = network.get_encoder().get_input_embeddings()
    with pytest.raises(InputError, match="nothing would be trained"):
        parameter_groups(network, OptimizerOptions(backbone_lr_scale=0.0, freeze_encoder=True))
