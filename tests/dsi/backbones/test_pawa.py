"""The prefix-aware output layer: checked against its formula, trained, stored, searched exactly."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MT5Config,
    MT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from data_prep.errors import InputError
from docids.table import PAD, DocidTable
from docids.trie import Trie
from dsi.backbones.backbone import load_backbone, save_backbone, set_docid_alphabet
from dsi.backbones.pawa import add_pawa, plain_class
from dsi.kernels.packed_linear import packed
from dsi.search.beam import SCORES, beam_search
from dsi.search.torch_trie import TorchTrie

ALPHABET, WIDTH = 9, 16
SHAPE = {
    "vocab_size": 30, "d_model": WIDTH, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2,
    "dropout_rate": 0.0,
}  # fmt: skip
IDS = torch.tensor([[4, 5, 6, 7], [8, 9, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
CODES = torch.tensor([[PAD, 3, 4, 3], [PAD, 8, 2, 5]])


def model_with(seed: int = 0, kind: Any = T5ForConditionalGeneration, alphabet: int = ALPHABET):
    """A tiny model with an adaptor that makes a difference."""
    torch.manual_seed(seed)
    config = {T5ForConditionalGeneration: T5Config, MT5ForConditionalGeneration: MT5Config}[kind]
    model = add_pawa(set_docid_alphabet(kind(config(**SHAPE)), 30, alphabet), 2, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.4)
    return model.eval()


def logits_of(model: Any, codes: torch.Tensor) -> torch.Tensor:
    return model(input_ids=IDS, attention_mask=MASK, decoder_input_ids=codes).logits


@pytest.mark.parametrize("alphabet", [ALPHABET, 2 * WIDTH], ids=["few codes", "many codes"])
@torch.no_grad()
def test_logits_are_those_of_the_formula(alphabet):
    model = model_with(alphabet=alphabet)
    found = logits_of(model, CODES)
    plain = copy.deepcopy(model)
    plain.__class__ = T5ForConditionalGeneration
    outputs = plain(
        input_ids=IDS, attention_mask=MASK, decoder_input_ids=CODES, output_hidden_states=True
    )
    z, adaptor = outputs.decoder_hidden_states[-1], model.pawa
    for example in range(2):
        for place in range(4):
            states = model.decoder.embed_tokens(CODES[example : example + 1, : place + 1])
            for layer in adaptor.decoder.layers:
                # Each state is computed from those up to it: there are no later ones to mask.
                lasts = [
                    layer(states[:, : end + 1], adaptor.memory)[:, -1:] for end in range(place + 1)
                ]
                states = torch.cat(lasts, dim=1)
            h = states[0, -1]
            for code in range(alphabet):
                row = model.lm_head.weight[code] + adaptor.weight[code] @ h
                expected = float(row @ z[example, place])
                assert float(found[example, place, code]) == pytest.approx(expected, abs=1e-4)
    assert (found - outputs.logits).abs().max() > 0.1


@torch.no_grad()
def test_a_new_adaptor_changes_nothing():
    torch.manual_seed(0)
    model = set_docid_alphabet(T5ForConditionalGeneration(T5Config(**SHAPE)), 30, ALPHABET).eval()
    before = logits_of(model, CODES)
    with_one = add_pawa(model, 3)
    assert not with_one.training
    torch.testing.assert_close(logits_of(with_one, CODES), before)


def test_its_gradients_reach_every_part():
    model = model_with()
    logits_of(model.train(), CODES).square().sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())
    assert all(
        weight.grad.abs().max() > 0 for weight in model.pawa.parameters() if weight.dim() > 1
    )


@pytest.mark.parametrize("kind", [T5ForConditionalGeneration, MT5ForConditionalGeneration])
def test_what_is_saved_is_loaded(kind, tmp_path):
    model = model_with(kind=kind)
    save_backbone(model, tmp_path)
    loaded = load_backbone(tmp_path)
    assert type(loaded) is type(model)
    assert plain_class(loaded) == kind.__name__
    with torch.no_grad():
        torch.testing.assert_close(logits_of(loaded, CODES), logits_of(model, CODES))


def brute_force(model: Any, sequences: list[tuple[int, ...]], score: str) -> np.ndarray:
    """The score of every identifier for every query, in a pass for each."""
    found = np.zeros((len(IDS), len(sequences)))
    for number, sequence in enumerate(sequences):
        codes = torch.tensor([[PAD, *sequence[:-1]]]).expand(len(IDS), -1)
        logits = logits_of(model, codes).double()
        for place, code in enumerate(sequence):
            among = range(logits.shape[-1])
            if score == "constrained":
                among = sorted({s[place] for s in sequences if s[:place] == sequence[:place]})
            part = logits[:, place, list(among)]
            found[:, number] += (logits[:, place, code] - part.logsumexp(-1)).numpy()
    return found


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("prepare", [lambda model: model, packed], ids=["plain", "packed"])
@pytest.mark.parametrize("seed", range(4))
@torch.no_grad()
def test_the_search_is_exact(seed, prepare, score):
    """With as many beams as documents; the identifiers have branches, lone ends and one length."""
    rng = np.random.default_rng(seed)
    sequences = sorted({tuple(rng.integers(2, ALPHABET, 4).tolist()) for _ in range(25)})
    table = DocidTable.from_sequences(
        [f"d{number}" for number in range(len(sequences))],
        sequences,
        alphabet_size=ALPHABET,
        kind="naive",
    )
    model = model_with(seed)
    expected = brute_force(model, sequences, score)
    for beams in (len(sequences), len(sequences) // 2):
        rows, scores = beam_search(
            prepare(model), IDS, MASK, TorchTrie.from_trie(Trie.build(table)), k=5, beams=beams,
            score=score,
        )  # fmt: skip
        for query in range(len(IDS)):
            found = expected[query, rows[query].numpy()]
            np.testing.assert_allclose(scores[query].numpy(), found, atol=1e-3)
            if beams == len(sequences):
                assert rows[query].tolist() == np.argsort(-expected[query])[:5].tolist()


def test_more_codes_find_room():
    model = model_with()
    model.pawa.lengthen(ALPHABET + 3)
    assert model.pawa.weight.shape == (ALPHABET + 3, WIDTH, WIDTH)
    assert not model.pawa.weight[ALPHABET:].any()
    assert model.pawa.weight[:ALPHABET].any()


def test_a_cache_and_labels_are_no_inputs():
    model = model_with()
    with pytest.raises(ValueError, match="no labels"):
        model(input_ids=IDS, decoder_input_ids=CODES, labels=CODES)


@torch.no_grad()
def test_transformers_own_generate_works():
    model = model_with()
    written = model.generate(IDS, attention_mask=MASK, do_sample=False, max_new_tokens=3)
    again = logits_of(model, written[:, :-1])
    assert again.argmax(-1)[0].tolist()[:1] == written[0, 1:2].tolist()


def test_other_decoders_are_refused():
    config = BartConfig(
        vocab_size=30, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16,
        decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2,
    )  # fmt: skip
    model = set_docid_alphabet(BartForConditionalGeneration(config), 30, ALPHABET)
    with pytest.raises(InputError, match=r"--model\.head pawa .*BartForConditionalGeneration"):
        add_pawa(model, 4)
