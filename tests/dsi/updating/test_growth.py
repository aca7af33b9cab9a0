"""A model that started spectrally grows: codes that old and new documents share follow both."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from docids.table import FIRST_CODE, DocidTable
from dsi.backbone import from_scratch
from dsi.updating.growth.base import Newcomers, grow
from dsi.warm_starts import WARM_STARTS, Corpus

FOREST, CITY = FIRST_CODE, FIRST_CODE + 1
"""Branches of the tree; the codes behind them stand for one document each."""
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
        "lexical",
        text_vocabulary=VOCABULARY - 4,
        alphabet_size=old.alphabet_size,
        documents=len(old),
        seed=0,
    )
    WARM_STARTS["spectral"](model, Corpus(TEXTS[: len(old)], old), 0)
    return model


def grown(model):
    newcomers = Newcomers(table(len(TEXTS)), ROWS, TEXTS, [[]] * len(TEXTS), VOCABULARY - 4)
    return grow(model, newcomers, start="spectral", text_vocabulary=VOCABULARY, seed=0)


def logits(model, word: int) -> torch.Tensor:
    """Of all codes at the first step, for a query of one word."""
    with torch.inference_mode():
        return model(
            input_ids=torch.tensor([[word]]), decoder_input_ids=torch.tensor([[0]])
        ).logits[0, 0]


def rows_of(model) -> np.ndarray:
    return model.get_output_embeddings().weight.detach().numpy().copy()


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    return float(left @ right / (np.linalg.norm(left) * np.linalg.norm(right)))


def test_a_word_of_new_documents_leads_into_the_branch_that_they_are_in(started):
    model = grown(started.eval())
    scores = logits(model, NEW_WORD)
    assert scores[FOREST] > scores[CITY] + 1


def test_a_shared_row_points_at_the_sum_of_its_documents_old_and_new(started):
    model = grown(started)
    rows = rows_of(model)
    own = [rows[CITY + 1 + row] for row, branch in enumerate(BRANCHES) if branch == FOREST]
    assert cosine(rows[FOREST], np.sum(own, axis=0)) > 0.95
    assert cosine(rows[FOREST], np.sum(own[:3], axis=0)) < 0.95, "of the old ones alone"


def test_rows_of_codes_without_new_documents_stay_as_they_were(started):
    before = rows_of(started)
    rows = rows_of(grown(started))
    others = [CITY, *(CITY + 1 + row for row in range(len(TEXTS) - len(NEW)))]
    width = before.shape[1]
    for code in others:
        np.testing.assert_allclose(np.delete(rows[code], slice(width - 2, -2)), before[code])
        assert not rows[code, width - 2 : -2].any()


def test_what_training_has_put_beside_the_sum_stays(started):
    before = rows_of(started)
    width = before.shape[1] - 2
    direction = before[FOREST, :width] / np.linalg.norm(before[FOREST, :width])
    beside = np.random.default_rng(0).standard_normal(width).astype(np.float32)
    documents = before[CITY + 1 :, :width]
    # Orthogonal to every document, so that no turn has a part in it.
    beside -= documents.T @ np.linalg.lstsq(documents.T, beside, rcond=None)[0]
    beside /= np.linalg.norm(beside)
    with torch.no_grad():
        started.get_output_embeddings().weight[FOREST, :width] += torch.from_numpy(beside)
    rows = rows_of(grown(started))
    assert rows[FOREST, :width] @ beside == pytest.approx(1, abs=0.01)
    assert rows[FOREST, :width] @ direction < np.linalg.norm(before[FOREST, :width])
