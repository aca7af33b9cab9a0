"""The memory estimate against what a backward pass actually keeps, and its advice."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny_checkpoints
import torch
from transformers import BartConfig, T5Config, T5ForConditionalGeneration

from data_prep.errors import InputError
from dsi.training.memory_estimate import (
    MemoryNeed,
    Shape,
    estimate,
    hidden_bytes,
    refuse_what_cannot_fit,
)

SHAPE = Shape(width=64, inner=128, heads=4, encoder_layers=2, decoder_layers=2, alphabet=50)


def kept_bytes(examples: int, tokens: int, codes: int) -> int:
    """What autograd keeps for the backward pass of a T5 of `SHAPE`, weights and inputs left out."""
    config = T5Config(
        vocab_size=SHAPE.alphabet,
        d_model=SHAPE.width,
        d_kv=SHAPE.width // SHAPE.heads,
        d_ff=SHAPE.inner,
        num_heads=SHAPE.heads,
        num_layers=SHAPE.encoder_layers,
        dropout_rate=0.1,
    )
    model = T5ForConditionalGeneration(config).train()
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = model(
            input_ids=torch.ones((examples, tokens), dtype=torch.int64),
            decoder_input_ids=torch.ones((examples, codes), dtype=torch.int64),
            use_cache=False,
        )
    del outputs
    return sum(kept.values())


@pytest.mark.parametrize(
    ("examples", "tokens", "codes"), [(8, 32, 1), (16, 64, 4), (4, 200, 8), (8, 16, 16)]
)
def test_the_estimate_of_hidden_states_is_near_what_is_kept(examples, tokens, codes):
    real = kept_bytes(examples, tokens, codes)
    assert 0.75 < hidden_bytes(SHAPE, examples, tokens, codes) / real < 1.5


def test_states_by_hand():
    def states(**changes):
        return estimate(SHAPE, 1000, examples=1, tokens=1, codes=1, **changes).states

    assert states() == 4000 + 8000
    assert states(optimizer="adafactor") == 4000
    assert states(sam=True) == 4000 + 8000 + 4000
    assert states(zero_stage=1, processes=4) == 4000 + 12000 // 4
    assert states(zero_stage=2, processes=4) == 1000 + 12000 // 4
    assert states(zero_stage=2, processes=4, sam=True) == 1000 + 12000 // 4 + 1000


def test_what_a_batch_adds_grows_with_it_and_shrinks_with_checkpointing():
    few, many = (estimate(SHAPE, 1, examples=b, tokens=64, codes=4).batch for b in (4, 8))
    assert many == 2 * few
    spared = estimate(SHAPE, 1, examples=8, tokens=64, codes=4, checkpointing=True).batch
    assert spared < many / 2
    wide = estimate(replace(SHAPE, alphabet=50_050), 1, examples=8, tokens=64, codes=4).batch
    assert wide - many == 12 * 8 * 4 * 50_000


def test_the_shape_is_read_from_t5_and_from_bart():
    t5 = T5Config(
        vocab_size=9, d_model=32, d_ff=48, num_heads=2, num_layers=3, num_decoder_layers=1
    )
    assert Shape.of(t5) == Shape(32, 48, 2, 3, 1, 9)
    bart = BartConfig(
        vocab_size=9,
        d_model=32,
        encoder_ffn_dim=48,
        encoder_attention_heads=2,
        encoder_layers=3,
        decoder_layers=1,
    )
    assert Shape.of(bart) == Shape(32, 48, 2, 3, 1, 9)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gemma3"])
def test_the_shape_of_a_language_model_counts_its_layers_once(family):
    config = tiny_checkpoints.LANGUAGE_MODELS[family](50).config
    inner = 128 if family == "gpt2" else 32
    assert Shape.of(config) == Shape(32, inner, 2, 2, 0, 50)


def test_an_adaptor_of_the_output_layer_costs_its_layers_and_adapted_weights():
    plain = hidden_bytes(SHAPE, 8, 64, 4)
    one, two = (hidden_bytes(replace(SHAPE, adaptor_layers=n), 8, 64, 4) - plain for n in (1, 2))
    layer = 4 * 8 * 4 * (22 * 64 + 3 * 128 + 3 * 4 * 4)
    assert two - one == layer
    assert one - layer == 4 * 8 * 4 * 2 * 64 * 50
    assert Shape.of(T5Config(dsi_pawa_layers=3)).adaptor_layers == 3


def test_a_pretrained_encoder_counts_where_it_is_trained():
    bert = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    settings = {"config": {**bert, "num_hidden_layers": 5}}
    config = T5Config(vocab_size=9, d_model=32, num_layers=0, num_decoder_layers=1)
    config.dsi_encoder = settings
    assert Shape.of(config) == Shape(32, 64, 2, 5, 1, 9)
    assert Shape.of(config, encoder_moves=False) == Shape(32, 64, 2, 0, 1, 9)


def test_what_fits_is_let_through():
    refuse_what_cannot_fit(MemoryNeed(60, 40), 100, accumulation=1, checkpointing=False)


@pytest.mark.parametrize(("free", "parts"), [(99, 2), (80, 2), (79, 4), (70, 4), (69, 8)])
def test_the_advice_would_make_it_fit(free, parts):
    need = MemoryNeed(60, 40)
    with pytest.raises(InputError, match=f"--loop.accumulation {parts} ") as refused:
        refuse_what_cannot_fit(need, free, accumulation=1, checkpointing=False)
    assert "--loop.gradient_checkpointing true" in str(refused.value)
    assert need.states + need.batch / parts <= free < need.states + need.batch / (parts / 2)


def test_states_that_do_not_fit_ask_for_another_optimizer():
    with pytest.raises(InputError, match="adafactor"):
        refuse_what_cannot_fit(MemoryNeed(101, 1), 100, accumulation=1, checkpointing=True)
