"""Document vectors from an encoder: the mean of its states, whatever else is in the batch."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_t5
import torch
from tiny_t5 import WORDS
from transformers import T5ForConditionalGeneration

from data_prep.dataset import Document
from data_prep.errors import InputError
from docids.assignment import Assignment, assign
from docids.embeddings import EmbeddingOptions, fit_embedder, open_embedder, save_embedder
from docids.kinds.learned import LearnedOptions

TEXTS = ["cats hunt mice", "", "glaciers carve valleys", "dogs sleep", "cats"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return tiny_t5.write(tmp_path_factory.mktemp("t5"))


def test_vectors_are_mean_states_of_length_one(checkpoint, tmp_path):
    options = EmbeddingOptions(model=f"encoder:{checkpoint}")
    embedder = fit_embedder(TEXTS, options, 0)
    vectors = embedder.encode(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((5, 16), np.float32)
    model = T5ForConditionalGeneration.from_pretrained(checkpoint).eval()
    for text, vector in zip(TEXTS, vectors, strict=True):
        if not text:
            assert not vector.any()
            continue
        ids = torch.tensor([[2 + WORDS.index(word) for word in text.split()]])
        with torch.no_grad():
            mean = model.get_encoder()(input_ids=ids).last_hidden_state[0].mean(0).numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
    save_embedder(embedder, options, tmp_path / "e")
    np.testing.assert_array_equal(open_embedder(tmp_path / "e")[0].encode(TEXTS), vectors)
    assert embedder.encode([]).shape == (0, 16)


def test_learned_codes_come_from_them_and_go_on(checkpoint, tmp_path):
    assignment, _ = assign(
        [Document(f"d{n}", "", f"{WORDS[n % 8]} {WORDS[n // 8 % 8]}") for n in range(40)],
        kind="learned",
        options=LearnedOptions(levels=2, codebook=4, width=16, least_use=0),
        embedding=EmbeddingOptions(model=f"encoder:{checkpoint}"),
    )
    assert assignment.built.extras["inner"].shape == (16, 16)
    assignment.save(tmp_path / "docids")
    more = Assignment.open(tmp_path / "docids").extend([Document("new", "", "cats hunt")])
    assert len(more.table) == 41


def test_a_model_that_is_missing_is_told(tmp_path):
    with pytest.raises(
        InputError, match=r"--embedding.model: cannot load the encoder-decoder '.*none'"
    ):
        fit_embedder(TEXTS, EmbeddingOptions(model=f"encoder:{tmp_path / 'none'}"), 0)
