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
from dsi.rows.encodings import discriminants, document_states

VOCABULARY, DOCUMENTS = 50, 30


def table(sequences=None) -> DocidTable:
    sequences = sequences or [(FIRST_CODE + row,) for row in range(DOCUMENTS)]
    return DocidTable.from_sequences(
        [f"d{row}" for row in range(len(sequences))],
        sequences,
        alphabet_size=FIRST_CODE + DOCUMENTS,
        kind="atomic",
    )


def model(kind: str, dropout: float = 0.0):
    torch.manual_seed(0)
    if kind == "t5":
        made = T5ForConditionalGeneration(
            T5Config(
                vocab_size=VOCABULARY,
                d_model=32,
                d_kv=8,
                num_heads=4,
                d_ff=64,
                num_layers=2,
                dropout_rate=dropout,
            )
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
                dropout=dropout,
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


def by_hand(states: np.ndarray) -> np.ndarray:
    """Linear discriminants of documents of one piece, by the inverse of the shrunk covariance."""
    mean = states.mean(axis=0)
    covariance = np.cov(states.T.astype(np.float64), bias=True)
    shrunk = covariance + 0.2 * np.diag(covariance).mean() * np.eye(len(mean))
    inverse = np.linalg.inv(shrunk)
    rows = (states - mean) @ inverse
    rows -= np.outer(rows @ mean, inverse @ mean) / (mean @ inverse @ mean)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_output_rows_are_the_discriminants_of_the_documents_states(kind):
    network, lines = model(kind), documents()
    states = np.stack([state(network, line) for line in lines])
    WARM_STARTS["encodings"].start(network, Corpus(lines, table()), 0)
    rows = network.get_output_embeddings().weight.detach().numpy()
    expected = by_hand(states)
    # A logit of 12 for one's own state; for a cosine of 0.1 where that is less.
    least = 0.1 * np.linalg.norm(states, axis=1).mean()
    expected *= 12 / max((expected * states).sum(axis=1).mean(), least)
    np.testing.assert_allclose(rows[FIRST_CODE:], expected, rtol=0.01, atol=0.01 * expected.std())
    assert not rows[:FIRST_CODE].any()
    # No document has an advantage that does not depend on the query.
    assert np.abs(rows @ states.mean(axis=0)).max() < 1e-3 * np.linalg.norm(states, axis=1).min()


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_rows_are_halved_until_dropout_does_not_make_them_worse_than_equal_ones(kind):
    network, lines = model(kind, dropout=0.1), documents()
    WARM_STARTS["encodings"].start(network, Corpus(lines, table()), 0)
    exact = model(kind)
    WARM_STARTS["encodings"].start(exact, Corpus(lines, table()), 0)
    rows, full = (each.get_output_embeddings().weight.detach() for each in (network, exact))
    factor = float(rows.norm() / full.norm())
    assert factor <= 0.5
    assert np.log2(factor) == pytest.approx(round(np.log2(factor)), abs=1e-3)
    torch.testing.assert_close(rows, full * factor)
    if factor > 0.5**6:
        assert loss_with_dropout(network, lines) < np.log(DOCUMENTS) + 0.2


@torch.no_grad()
def loss_with_dropout(network, lines: list[list[int]]) -> float:
    """The mean cross-entropy of documents for their own texts in training mode, over 20 passes."""
    network.train()
    torch.manual_seed(1)
    begun = torch.tensor([[PAD]])
    losses = []
    for row, line in enumerate(lines):
        for _ in range(20):
            output = network(input_ids=torch.tensor([line]), decoder_input_ids=begun)
            logits = output.logits[0, 0, FIRST_CODE:]
            losses.append(float(logits.logsumexp(0) - logits[row]))
    return float(np.mean(losses))


def test_a_long_document_is_the_mean_of_its_pieces():
    network, lines = model("bart"), [list(range(3, 43)) * 2, [5, 6, 7]]
    means, pieces = document_states(network, lines)
    # 80 tokens are three pieces, each no longer than a query.
    expected = [state(network, line) for line in (lines[0][:26], lines[0][26:53], lines[0][53:])]
    np.testing.assert_allclose(means[0], np.mean(expected, axis=0), atol=1e-5)
    np.testing.assert_allclose(pieces, [*expected, state(network, lines[1])], atol=1e-5)


def test_what_all_states_share_does_not_decide():
    """The states of a language model: a large common part, and large directions without meaning."""
    rng = np.random.default_rng(0)
    meaning = rng.standard_normal((40, 60))
    noise = 8 * rng.standard_normal((80, 4))
    both = np.concatenate([np.tile(meaning, (2, 1)), noise], axis=1) + 50
    documents, queries = both[:40].astype(np.float32), both[40:]
    rows = discriminants(documents, documents)
    centered = documents - documents.mean(axis=0)
    own = np.arange(40)
    assert ((queries @ rows.T).argmax(axis=1) == own).mean() > 0.8
    assert ((queries @ centered.T).argmax(axis=1) == own).mean() < 0.5


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_decoder_rows_are_centered_states_at_their_old_length(kind):
    network, lines = model(kind), documents()
    states = np.stack([state(network, line) for line in lines])
    states -= states.mean(axis=0)
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    before = network.get_decoder().get_input_embeddings().weight.detach().clone()
    WARM_STARTS["encodings"].start(network, Corpus(lines, table()), 0)
    codes = network.get_decoder().get_input_embeddings().weight.detach()
    length = float(before[FIRST_CODE:].norm(dim=1).mean())
    np.testing.assert_allclose(codes[FIRST_CODE:], states * length, atol=1e-4)
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
        network = model("bart", 0.1).train(training)
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
