"""Warm start of a pretrained model: docid rows are its own encodings of the documents."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from docids.table import FIRST_CODE, PAD, DocidTable
from dsi.backbones.backbone import set_docid_alphabet
from dsi.rows import WARM_STARTS, Corpus
from dsi.rows.corpus import code_vectors

VOCABULARY, DOCUMENTS = 50, 30


def table(sequences=None) -> DocidTable:
    sequences = sequences or [(FIRST_CODE + row,) for row in range(DOCUMENTS)]
    return DocidTable.from_sequences(
        [f"d{row}" for row in range(len(sequences))],
        sequences,
        alphabet_size=FIRST_CODE + DOCUMENTS,
        kind="atomic",
    )


def model(kind: str):
    torch.manual_seed(0)
    if kind == "t5":
        made = T5ForConditionalGeneration(
            T5Config(vocab_size=VOCABULARY, d_model=32, d_kv=8, num_heads=4, d_ff=64, num_layers=2)
        )
    else:
        made = BartForConditionalGeneration(
            BartConfig(
                vocab_size=VOCABULARY,
                d_model=32,
                encoder_layers=2,
                decoder_layers=2,
                encoder_attention_heads=4,
                decoder_attention_heads=4,
                encoder_ffn_dim=64,
                decoder_ffn_dim=64,
                max_position_embeddings=40,
            )
        )
    return set_docid_alphabet(made, VOCABULARY, FIRST_CODE + DOCUMENTS).eval()


def documents(longest: int = 30) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [
        rng.integers(3, VOCABULARY, rng.integers(4, longest)).tolist() for _ in range(DOCUMENTS)
    ]


@torch.inference_mode()
def state(network, line: list[int]) -> np.ndarray:
    """What the output layer reads at the first step, for one document alone."""
    read: list[torch.Tensor] = []
    hook = network.get_output_embeddings().register_forward_pre_hook(
        lambda layer, given: read.append(given[0])
    )
    network(input_ids=torch.tensor([line]), decoder_input_ids=torch.tensor([[PAD]]))
    hook.remove()
    return read[0][0, 0].numpy()


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_output_rows_are_the_centered_states_of_the_documents_at_length_one(kind):
    network, lines = model(kind), documents()
    states = np.stack([state(network, line) for line in lines])
    states -= states.mean(axis=0)
    expected = states / np.linalg.norm(states, axis=1, keepdims=True)
    WARM_STARTS["encodings"].start(network, Corpus(lines, table()), 0)
    rows = network.get_output_embeddings().weight.detach().numpy()
    np.testing.assert_allclose(rows[FIRST_CODE:], expected, atol=1e-4)
    assert not rows[:FIRST_CODE].any()


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_decoder_rows_point_the_same_way_at_their_old_length(kind):
    network, lines = model(kind), documents()
    before = network.get_decoder().get_input_embeddings().weight.detach().clone()
    WARM_STARTS["encodings"].start(network, Corpus(lines, table()), 0)
    rows = network.get_output_embeddings().weight
    codes = network.get_decoder().get_input_embeddings().weight
    torch.testing.assert_close(codes[FIRST_CODE:], (rows * before.norm(dim=1).mean())[FIRST_CODE:])
    assert torch.equal(codes[:FIRST_CODE], before[:FIRST_CODE]), "the start of the decoder stays"


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_a_documents_text_finds_it(kind):
    network, lines = model(kind), documents()
    with torch.no_grad():  # a randomly initialized model hardly distinguishes texts
        for weight in network.parameters():
            weight.mul_(3.0)
    WARM_STARTS["encodings"].start(network, Corpus(lines, table()), 0)
    first = 0
    for row, line in enumerate(lines):
        logits = network.get_output_embeddings()(torch.tensor(state(network, line)))
        first += int(logits[FIRST_CODE:].argmax()) == row
    assert first > DOCUMENTS / 2


def test_long_documents_are_cut_and_empty_ones_pass():
    network = model("bart")
    lines = [*documents()[:-2], [5] * 5000, []]
    WARM_STARTS["encodings"].start(network, Corpus(lines, table()), 0)
    assert all(torch.isfinite(weight).all() for weight in network.parameters())


def test_identical_documents_give_finite_rows():
    network = model("t5")
    WARM_STARTS["encodings"].start(network, Corpus([[4, 5]] * DOCUMENTS, table()), 0)
    assert torch.isfinite(network.get_output_embeddings().weight).all()


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_left_as_it_was_and_dropout_does_not_count(training):
    rows = []
    for _ in range(2):
        network = model("bart").train(training)
        WARM_STARTS["encodings"].start(network, Corpus(documents(), table()), 0)
        assert network.training == training
        rows.append(network.get_output_embeddings().weight)
    assert torch.equal(*rows)


def test_a_code_that_documents_share_gets_their_mean_direction_at_their_mean_length():
    vectors = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 0.0]], np.float32)
    identifiers = DocidTable.from_sequences(
        ["a", "b", "c"], [(2, 3), (2, 4), (5, 3)], alphabet_size=7, kind="test"
    )
    rows = code_vectors(identifiers, vectors, 7)
    typical = 5 / 3
    np.testing.assert_allclose(rows[2], np.array([1, 1]) / np.sqrt(2) * typical, rtol=1e-6)
    np.testing.assert_allclose(rows[3], [typical, 0], rtol=1e-6)
    np.testing.assert_allclose(rows[4], [0, 2])
    np.testing.assert_allclose(rows[5], [1, 0])
    assert not rows[[0, 1, 6]].any()


def test_without_a_warm_start_nothing_changes():
    network = model("t5")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    WARM_STARTS["none"].start(network, Corpus(documents(), table()), 0)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
