"""Expansion of a model after a spectral warm start: new rows by the formula, old ones unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from docids.table import FIRST_CODE, DocidTable
from dsi.backbones.backbone import from_scratch
from dsi.rows import WARM_STARTS, Corpus
from dsi.rows.model_expansion import expand
from dsi.rows.new_documents import NewDocuments
from dsi.rows.new_words import write_new_words
from dsi.rows.spectral import RESERVED

FOREST, CITY = FIRST_CODE, FIRST_CODE + 1
"""Branches of the tree; the codes below them belong to one document each."""
OLD = {
    FOREST: [[3, 4, 5], [3, 4, 6], [3, 5, 6, 7]],
    CITY: [[8, 9, 10], [8, 9, 11], [8, 10, 11, 12]],
}
NEW = [[3, 4, 20, 21], [3, 5, 21, 22]]
"""Documents under FOREST, with words that no old document has."""
NEW_WORD = 21
TEXTS = [*OLD[FOREST], *OLD[CITY], *NEW]
BRANCHES = [FOREST] * 3 + [CITY] * 3 + [FOREST] * 2
ROWS = np.arange(len(OLD[FOREST] + OLD[CITY]), len(TEXTS))
VOCABULARY = 24
KNOWN_CODES = CITY + 1 + len(TEXTS) - len(NEW)


def table(documents: int) -> DocidTable:
    sequences = [(branch, CITY + 1 + row) for row, branch in enumerate(BRANCHES[:documents])]
    return DocidTable.from_sequences(
        [f"d{row}" for row in range(documents)],
        sequences,
        alphabet_size=CITY + 1 + documents,
        kind="semantic",
    )


@pytest.fixture
def started():
    """A model of the old documents."""
    old = table(len(TEXTS) - len(NEW))
    model = from_scratch(
        "latent",
        text_vocabulary=VOCABULARY - 4,
        alphabet_size=old.alphabet_size,
        seed=0,
    )
    WARM_STARTS["spectral"].start(model, Corpus(TEXTS[: len(old)], old), 0)
    return model


def grown(model):
    corpus = Corpus(TEXTS, table(len(TEXTS)))
    new_documents = NewDocuments(corpus, ROWS, VOCABULARY - 4, KNOWN_CODES)
    return expand(model, new_documents, start="spectral", text_vocabulary=VOCABULARY, seed=0)


def logits(model, *words: int) -> torch.Tensor:
    """Of all codes at the first step, for a query of some words."""
    with torch.inference_mode():
        return model(input_ids=torch.tensor([words]), decoder_input_ids=torch.tensor([[0]])).logits[
            0, 0
        ]


def rows_of(model) -> np.ndarray:
    return model.get_output_embeddings().weight.detach().numpy().copy()


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    return float(left @ right / (np.linalg.norm(left) * np.linalg.norm(right)))


def test_new_words_count_for_nothing_until_training_gives_them_a_direction(started):
    model = grown(started.eval())
    assert not logits(model, NEW_WORD).any()
    for words in ([3, 4], [8], OLD[CITY][2]):
        with_new = logits(model, *words, NEW_WORD, NEW_WORD + 1)
        torch.testing.assert_close(with_new, logits(model, *words), atol=1e-4, rtol=0)
    output = model(input_ids=torch.tensor([[3, NEW_WORD]]), labels=torch.tensor([[FOREST]]))
    output.loss.backward()
    gradients = model.get_encoder().get_input_embeddings().weight.grad
    assert gradients[NEW_WORD].norm() > 0.1 * gradients[3].norm() > 0


def test_old_words_of_new_documents_lead_to_them(started):
    model = grown(started.eval())
    for row, text in zip(ROWS.tolist(), NEW, strict=True):
        scores = logits(model, *text)
        assert scores[FOREST] > scores[CITY] + 1
        assert scores[CITY + 1 + row] == pytest.approx(2, abs=1e-3), (
            "the weight times a cosine of 1"
        )


def test_a_shared_row_points_at_the_sum_of_its_documents_old_and_new(started):
    model = grown(started)
    rows = rows_of(model)
    own = [rows[CITY + 1 + row] for row, branch in enumerate(BRANCHES) if branch == FOREST]
    assert cosine(rows[FOREST], np.sum(own, axis=0)) > 0.9999
    assert cosine(rows[FOREST], np.sum(own[:3], axis=0)) < 0.99, "of the old ones alone"


def test_rows_of_codes_without_new_documents_stay_as_they_were(started):
    before = rows_of(started)
    rows = rows_of(grown(started))
    others = [CITY, *(CITY + 1 + row for row in range(len(TEXTS) - len(NEW)))]
    np.testing.assert_array_equal(rows[others], before[others])


def test_what_training_has_put_beside_the_sum_stays(started):
    before = rows_of(started)
    width = before.shape[1] - RESERVED
    direction = before[FOREST, :width] / np.linalg.norm(before[FOREST, :width])
    beside = np.random.default_rng(0).standard_normal(width).astype(np.float32)
    documents = before[CITY + 1 :, :width]
    # Orthogonal to every document, so that no rotation affects it.
    beside -= documents.T @ np.linalg.lstsq(documents.T, beside, rcond=None)[0]
    beside /= np.linalg.norm(beside)
    with torch.no_grad():
        started.get_output_embeddings().weight[FOREST, :width] += torch.from_numpy(beside)
    rows = rows_of(grown(started))
    assert rows[FOREST, :width] @ beside == pytest.approx(1, abs=0.01)
    assert rows[FOREST, :width] @ direction < np.linalg.norm(before[FOREST, :width])


def token_sum(embedding: np.ndarray, text: list[int]) -> np.ndarray:
    """The sum of a text's token vectors: directions times the exponentials of their log weights."""
    rows = embedding[text].astype(np.float64)
    return (rows[:, :-RESERVED] * np.exp(rows[:, -2:-1])).sum(axis=0)


def test_thirty_appends_keep_what_there_is_and_are_exact_and_of_one_width():
    rng = np.random.default_rng(3)
    texts = [rng.integers(3, VOCABULARY - 4, rng.integers(1, 600)).tolist() for _ in range(40)]
    texts += [[*rng.integers(3, VOCABULARY + n, 400).tolist()] for n in range(30)]
    titles = [text[:2] for text in texts]
    atomic = lambda count: DocidTable.from_sequences(  # noqa: E731
        [f"d{row}" for row in range(count)],
        [(FIRST_CODE + row,) for row in range(count)],
        alphabet_size=FIRST_CODE + count,
        kind="atomic",
    )
    model = from_scratch(
        "latent", text_vocabulary=VOCABULARY, alphabet_size=FIRST_CODE + 40, seed=0
    )
    WARM_STARTS["spectral"].start(model, Corpus(texts[:40], atomic(40), titles[:40], 3), 0)
    words = model.get_encoder().get_input_embeddings().weight.detach().numpy().copy()
    for number in range(30):
        count = 41 + number
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        corpus = Corpus(texts[:count], atomic(count), titles[:count], 3)
        new_documents = NewDocuments(
            corpus, np.array([count - 1]), VOCABULARY + number, FIRST_CODE + count - 1
        )
        model = expand(
            model, new_documents, start="spectral", text_vocabulary=VOCABULARY + number + 1, seed=0
        )
        for name, weight in model.named_parameters():
            assert weight.shape[1:] == before[name].shape[1:], "no width has changed"
            assert torch.equal(weight[: len(before[name])], before[name]), name
        known = [token for token in texts[count - 1] if token < VOCABULARY]
        known += 2 * [token for token in titles[count - 1] if token < VOCABULARY]
        expected = token_sum(words, known)
        expected /= np.linalg.norm(expected)
        row = rows_of(model)[-1]
        np.testing.assert_allclose(row[:-RESERVED], expected, atol=1e-5)
        np.testing.assert_allclose(row[-RESERVED:], 0, atol=1e-5)
    assert len(model.get_encoder().get_input_embeddings().weight) == VOCABULARY + 30


def test_a_document_without_a_known_word_gets_a_row_of_zeros(started):
    texts = [*TEXTS[: -len(NEW)], [NEW_WORD], [NEW_WORD + 1, NEW_WORD]]
    corpus = Corpus(texts, table(len(TEXTS)))
    new_documents = NewDocuments(corpus, ROWS, VOCABULARY - 4, KNOWN_CODES)
    model = expand(started, new_documents, start="spectral", text_vocabulary=VOCABULARY, seed=0)
    rows = rows_of(model)
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(rows[[CITY + 1 + row for row in ROWS.tolist()]], 0, atol=1e-6)


def test_a_new_word_is_read_as_the_rare_words_beside_it():
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=9, d_model=4, d_kv=2, d_ff=4, num_layers=1, num_heads=2, decoder_layers=1
    )
    model = T5ForConditionalGeneration(config)
    rows = model.get_encoder().get_input_embeddings().weight.detach()
    rows.copy_(torch.eye(9, 4) * torch.arange(1.0, 10.0)[:, None])
    before = rows.clone()
    # Word 0 is in every old document and says nothing; 4 to 6 are new, 6 without a known word.
    old, new = [[0, 1], [0, 2], [0, 3, 3]], [[0, 2, 4], [3, 5, 4, 3], [6]]
    assert write_new_words(model, old, new, old_vocabulary=4, vocabulary=7) == 2
    assert torch.equal(rows[[0, 1, 2, 3, 6, 7, 8]], before[[0, 1, 2, 3, 6, 7, 8]])
    # Words 1, 2 and 3 are in one old document each, and their median norm is that of word 2.
    frequent = np.log(4 / 3.5) * 1.0, np.log(4 / 1.5) * 3.0
    first = torch.tensor([frequent[0], 0, frequent[1], 0]) / np.hypot(*frequent)
    second = torch.tensor([0.0, 0, 0, 1])
    both = (first + second) / (first + second).norm()
    torch.testing.assert_close(rows[4], (3 * both).float())
    torch.testing.assert_close(rows[5], 3 * second)
    assert write_new_words(model, old, [[0, 1]], old_vocabulary=4, vocabulary=4) == 0
