"""Code rows initialized from codebooks: projected codewords, with each warm start."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from docids.kinds import KINDS, Documents
from docids.table import FIRST_CODE
from dsi.backbones.backbone import from_scratch
from dsi.rows import WARM_STARTS, Codebooks, Corpus
from dsi.rows.corpus import code_rows, code_vectors

VOCABULARY, DOCUMENTS, LEVELS, SIZE = 60, 40, 3, 8
WORDS = LEVELS * SIZE


def quantized(kind: str, dimensions: int = 10):
    """Documents of random tokens, vectors of theirs, and their identifiers."""
    rng = np.random.default_rng(0)
    tokens = [rng.integers(3, VOCABULARY, 12).tolist() for _ in range(DOCUMENTS)]
    counts = np.zeros((DOCUMENTS, VOCABULARY), np.float32)
    for row, line in enumerate(tokens):
        np.add.at(counts[row], line, 1.0)
    vectors = (counts @ rng.normal(size=(VOCABULARY, dimensions))).astype(np.float32)
    options = KINDS[kind].Options(levels=LEVELS, codebook=SIZE)
    ids = [f"d{row}" for row in range(DOCUMENTS)]
    built = KINDS[kind].build(Documents(ids, [""] * DOCUMENTS, lambda texts: vectors), options, 0)
    words = KINDS[kind].codewords(built, dimensions)
    return tokens, built.table, Codebooks(words, vectors)


def model_of(table):
    return from_scratch(
        "tiny", text_vocabulary=VOCABULARY, alphabet_size=table.alphabet_size
    ).eval()


def rows(layer) -> np.ndarray:
    return layer.weight.detach().numpy()


def length(array) -> np.ndarray:
    return np.linalg.norm(array, axis=-1)


@pytest.mark.parametrize("kind", ["rq", "pq"])
def test_rows_are_codewords_by_the_map_from_old_vectors_to_new(kind):
    _, table, codebooks = quantized(kind)
    turn = np.random.default_rng(1).normal(size=(10, 16)).astype(np.float32)
    seen = codebooks.vectors @ turn  # the model's vectors, which the map explains completely
    found = code_rows(Corpus([], table, codebooks=codebooks), seen, table.alphabet_size)
    np.testing.assert_allclose(
        found[FIRST_CODE : FIRST_CODE + WORDS], codebooks.words @ turn, atol=1e-3
    )
    # Numbers that disambiguate equal codes have no codeword, and keep the mean of their documents.
    means = code_vectors(table, seen, table.alphabet_size)
    np.testing.assert_array_equal(found[FIRST_CODE + WORDS :], means[FIRST_CODE + WORDS :])
    np.testing.assert_array_equal(found[:FIRST_CODE], means[:FIRST_CODE])
    # The rows of a document's codes sum to its vector, up to the quantization error.
    codes = table.matrix()[:, :LEVELS]
    kept = codebooks.words[codes - FIRST_CODE].sum(axis=1) @ turn
    np.testing.assert_allclose(found[codes].sum(axis=1), kept, atol=1e-3)


@pytest.mark.parametrize("kind", ["rq", "pq"])
@pytest.mark.parametrize("start", ["spectral", "encodings"])
def test_warm_starts_write_the_projected_codewords(start, kind):
    tokens, table, codebooks = quantized(kind)
    plain, model = model_of(table), model_of(table)
    WARM_STARTS[start].start(plain, Corpus(tokens, table), 0)
    WARM_STARTS[start].start(model, Corpus(tokens, table, codebooks=codebooks), 0)
    written = rows(model.get_output_embeddings())
    words = written[FIRST_CODE : FIRST_CODE + WORDS]
    # They are the image of the codewords under one linear map; no other rows change.
    image = codebooks.words @ np.linalg.lstsq(codebooks.words, words, rcond=None)[0]
    np.testing.assert_allclose(words, image, atol=1e-3 * length(words).mean())
    before = rows(plain.get_output_embeddings())
    changed = (written != before).any(axis=1)
    assert changed[FIRST_CODE : FIRST_CODE + WORDS].all()
    assert not changed[FIRST_CODE + WORDS :].any()


@pytest.mark.parametrize("dimensions", [10, 100])
def test_without_a_warm_start_angles_of_codewords_are_kept(dimensions):
    tokens, table, codebooks = quantized("rq", dimensions)
    plain, model = model_of(table), model_of(table)
    WARM_STARTS["none"].start(plain, Corpus(tokens, table), 0)
    WARM_STARTS["none"].start(model, Corpus(tokens, table, codebooks=codebooks), 0)
    place = slice(FIRST_CODE, FIRST_CODE + WORDS)
    angles = codebooks.words @ codebooks.words.T
    angles /= length(codebooks.words)[:, None] * length(codebooks.words)
    layers = ("get_output_embeddings", "get_decoder")
    for name in layers:
        pair = []
        for each in (model, plain):
            layer = getattr(each, name)()
            layer = layer.get_input_embeddings() if name == "get_decoder" else layer
            pair.append(rows(layer))
        written, before = pair[0][place], pair[1][place]
        cosines = written @ written.T / (length(written)[:, None] * length(written))
        np.testing.assert_allclose(cosines, angles, atol=1e-4)
        np.testing.assert_allclose(length(written).mean(), length(before).mean(), rtol=1e-4)
        np.testing.assert_array_equal(pair[0][:FIRST_CODE], pair[1][:FIRST_CODE])
    encoder = [each.get_encoder().state_dict() for each in (model, plain)]
    assert all(torch.equal(value, encoder[1][key]) for key, value in encoder[0].items())
