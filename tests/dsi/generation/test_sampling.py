"""The output of a model depends on the prompt and the seed, not on the rest of the batch."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, LlamaConfig, LlamaForCausalLM

from data_prep.errors import InputError
from dsi.generation.pretrained_models import load_writer, weights_hash
from dsi.generation.sampling import Sampler, SamplingOptions, _Choose

PROMPTS = [
    "Otter 7 The otter eats berry7.",
    "Pika 1 The pika of valley 1 eats berry1 near the bridge. It was seen in 1901 by a ranger.",
    "Vole",
    "Heron 3 The heron of valley 3.",
]
FP32 = {"precision": "fp32", "query_length": 8}


@pytest.mark.parametrize("kind", ["encoder_decoder", "causal"])
class TestSampler:
    def test_every_prompt_gets_different_texts_in_one_line(self, kind, request):
        sampler = Sampler.open(str(request.getfixturevalue(kind)), SamplingOptions(**FP32))
        written = sampler.sample(PROMPTS, 5, seed=0)
        assert [len(set(texts)) for texts in written] == [5] * len(PROMPTS)
        assert all(text and "\n" not in text for texts in written for text in texts)

    def test_neighbors_and_batches_change_nothing(self, kind, request):
        path = str(request.getfixturevalue(kind))
        together = Sampler.open(path, SamplingOptions(**FP32)).sample(PROMPTS, 4, seed=3)
        alone = Sampler.open(path, SamplingOptions(**FP32, batch=1))
        assert [alone.sample([prompt], 4, seed=3)[0] for prompt in PROMPTS] == together
        assert alone.sample(PROMPTS[::-1], 4, seed=3)[::-1] == together

    def test_another_seed_writes_something_else(self, kind, request):
        sampler = Sampler.open(str(request.getfixturevalue(kind)), SamplingOptions(**FP32))
        assert sampler.sample(PROMPTS, 4, seed=3) != sampler.sample(PROMPTS, 4, seed=4)

    def test_the_random_state_of_the_program_is_left_alone(self, kind, request):
        sampler = Sampler.open(str(request.getfixturevalue(kind)), SamplingOptions(**FP32))
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        sampler.sample(PROMPTS, 2, seed=1)
        assert torch.equal(torch.rand(3), expected)


def rotary(tokenizer):
    """A Llama with random weights, large enough for every token of the prompt to matter."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, initializer_range=0.5, eos_token_id=1,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_prompt_that_is_read_once_for_all_its_texts_leads_to_the_same(
    kind, causal, tokenizer, monkeypatch
):
    model = load_writer(str(causal))[0] if kind == "gpt2" else rotary(tokenizer)
    sampler = Sampler(model, tokenizer, SamplingOptions(**FP32))
    rows = []
    forward = type(model).forward

    @functools.wraps(forward)
    def counted(self, *words, **values):
        rows.append(len(values["input_ids"]))
        return forward(self, *words, **values)

    monkeypatch.setattr(type(model), "forward", counted)
    written = sampler.sample(PROMPTS, 3, seed=0)
    assert rows[0] == len(PROMPTS)  # and not three times as many
    monkeypatch.setattr(Sampler, "_read_once", lambda *words: None)
    assert sampler.sample(PROMPTS, 3, seed=0) == written


def test_the_likeliest_token_alone_is_greedy_search(encoder_decoder):
    sampler = Sampler.open(str(encoder_decoder), SamplingOptions(**FP32, top_k=1))
    model, tokenizer = load_writer(str(encoder_decoder))
    model = AutoModelForSeq2SeqLM.from_pretrained(encoder_decoder).eval()
    expected = []
    for prompt in PROMPTS:
        tokens = model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=8)
        words = tokenizer.decode(tokens[0], skip_special_tokens=True).split()
        expected.append([" ".join(words)] if words else [])
    assert sampler.sample(PROMPTS, 3, seed=0) == expected


def test_draws_follow_the_softmax_of_the_likeliest():
    scores = torch.log(torch.tensor([[0.5, 0.1, 0.3, 0.1]])).repeat(40_000, 1)
    noise = np.random.default_rng(0).gumbel(size=(40_000, 1, 2)).astype(np.float32)
    choose = _Choose(torch.from_numpy(noise), 1.0, 1)
    left = choose(torch.zeros(40_000, 1, dtype=torch.long), scores)
    assert torch.isfinite(left).sum(dim=1).eq(1).all()
    shares = torch.isfinite(left).float().mean(dim=0)
    assert shares.tolist() == pytest.approx([5 / 8, 0, 3 / 8, 0], abs=0.01)


def test_temperature_sharpens():
    scores = torch.log(torch.tensor([[0.6, 0.4]])).repeat(40_000, 1)
    noise = np.random.default_rng(0).gumbel(size=(40_000, 1, 2)).astype(np.float32)
    left = _Choose(torch.from_numpy(noise), 0.5, 1)(torch.zeros(40_000, 1).long(), scores)
    assert torch.isfinite(left[:, 0]).float().mean() == pytest.approx(0.36 / 0.52, abs=0.01)


def test_an_empty_prompt_gets_nothing_and_a_long_one_is_cut(encoder_decoder):
    options = SamplingOptions(**FP32, document_length=6)
    sampler = Sampler.open(str(encoder_decoder), options)
    assert sampler.sample([], 3, seed=0) == []
    assert sampler.sample(["", "  "], 3, seed=0) == [[], []]
    assert max(map(len, sampler._encode(["berry bridge " * 500]))) == 6


def test_a_model_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot load the model 'no/such'"):
        Sampler.open("no/such", SamplingOptions())
    with pytest.raises(InputError, match="cannot load"):
        Sampler.open(str(tmp_path), SamplingOptions())


def test_other_weights_have_another_hash(encoder_decoder, causal):
    assert weights_hash(encoder_decoder) == weights_hash(str(encoder_decoder))
    assert weights_hash(encoder_decoder) != weights_hash(causal)


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 0},
        {"temperature": 0.0},
        {"document_length": 0},
        {"query_length": 0},
        {"batch": 0},
        {"precision": "fp8"},
        {"per_doc": 0},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError):
        SamplingOptions(**options)
