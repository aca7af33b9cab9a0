"""The spectral warm start: an untouched model ranks as BM25 does, computed here by hand."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration

from data_prep.errors import InputError
from docids.kinds import KINDS, Documents, TreeOptions
from docids.table import FIRST_CODE, PAD, DocidTable
from docids.trie import Trie
from dsi.backbone import from_scratch, graft_docids
from dsi.search.beam import beam_search
from dsi.search.torch_trie import TorchTrie
from dsi.warm_starts import WARM_STARTS, Corpus
from dsi.warm_starts.spectral import bm25_matrix, factorise

VOCABULARY = 120
FIRST_TOKEN = 3
HIGHEST = 110
"""Tokens from here on are in no document."""


def bm25(documents: list[list[int]], query: list[int], k1: float = 1.5, b: float = 0.75):
    """BM25 as the book has it: a loop over documents and query tokens."""
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        counts, score = Counter(document), 0.0
        for token in query:
            having = sum(token in other for other in documents)
            idf = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
            norm = k1 * (1 - b + b * len(document) / mean)
            score += idf * counts[token] / (counts[token] + norm) if counts[token] else 0.0
        scores.append(score)
    return np.array(scores)


def draw(documents: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, HIGHEST - FIRST_TOKEN + 1)
    return [
        (FIRST_TOKEN + rng.choice(len(share), rng.integers(5, 30), p=share / share.sum())).tolist()
        for _ in range(documents)
    ]


def atomic(documents: int) -> DocidTable:
    return DocidTable.from_sequences(
        [f"d{row}" for row in range(documents)],
        [(FIRST_CODE + row,) for row in range(documents)],
        alphabet_size=FIRST_CODE + documents,
        kind="atomic",
    )


def start(
    tokens: list[list[int]],
    table: DocidTable,
    size: str = "lexical",
    seed: int = 0,
    width: int | None = None,
):
    model = from_scratch(
        size,
        text_vocabulary=VOCABULARY,
        alphabet_size=table.alphabet_size,
        documents=width - 2 if width else len(table),
        seed=seed,
    )
    WARM_STARTS["spectral"](model, Corpus(tokens, table), seed)
    return model.eval()


@torch.inference_mode()
def first_logits(model, query: list[int]) -> np.ndarray:
    logits = model(
        input_ids=torch.tensor([query]),
        attention_mask=torch.ones((1, len(query)), dtype=torch.int64),
        decoder_input_ids=torch.full((1, 1), PAD),
    ).logits
    return logits[0, 0].double().numpy()


QUERIES = [[5], [3, 9], [4, 20, 60], [100, 3, 3, 7], [8, 30, 31, 32, 33, 34, 35]]


def test_the_matrix_is_bm25():
    documents = draw(20)
    matrix = np.asarray(bm25_matrix(documents, VOCABULARY).todense())
    assert matrix.shape == (20, VOCABULARY)
    for token in (3, 7, 50, 109, 115):
        np.testing.assert_allclose(matrix[:, token], bm25(documents, [token]), atol=1e-12)


@pytest.mark.parametrize(("documents", "tokens"), [(40, 300), (300, 40)])
def test_factors_of_full_rank_give_the_matrix_back(documents, tokens):
    lines = np.random.default_rng(1).integers(0, tokens, (documents, 12)).tolist()
    matrix = bm25_matrix(lines, tokens)
    token_vectors, document_vectors = factorise(matrix, 50, seed=0)
    assert token_vectors.shape == (tokens, 50)
    assert document_vectors.shape == (documents, 50)
    np.testing.assert_allclose(document_vectors @ token_vectors.T, matrix.todense(), atol=1e-4)


def test_factors_of_lower_rank_are_the_best_of_that_rank():
    matrix = bm25_matrix(draw(40), VOCABULARY)
    token_vectors, document_vectors = factorise(matrix, 8, seed=0)
    left, singular, right = np.linalg.svd(np.asarray(matrix.todense()), full_matrices=False)
    best = (left[:, :8] * singular[:8]) @ right[:8]
    np.testing.assert_allclose(document_vectors @ token_vectors.T, best, atol=1e-4)


def test_a_large_corpus_is_factorised_nearly_as_well(monkeypatch):
    matrix = bm25_matrix(draw(60), VOCABULARY)
    exact = np.linalg.svd(np.asarray(matrix.todense()), compute_uv=False)
    monkeypatch.setattr("dsi.warm_starts.spectral._DENSE_DOCUMENTS", 10)
    token_vectors, document_vectors = factorise(matrix, 20, seed=0)
    left_over = np.linalg.norm(document_vectors @ token_vectors.T - matrix.todense())
    assert left_over < 1.05 * np.linalg.norm(exact[20:])
    again = factorise(matrix, 20, seed=0)
    np.testing.assert_array_equal(token_vectors, again[0])
    np.testing.assert_array_equal(document_vectors, again[1])


@pytest.mark.parametrize(
    ("size", "width"),
    [("lexical", 256), ("lexical", 2048), ("lexical-context", 512), ("tiny", 256)],
)
def test_an_untouched_model_scores_documents_in_proportion_to_bm25(size, width):
    documents = draw(60)
    model = start(documents, atomic(60), size, width=width)
    assert model.config.d_model == width
    for query in QUERIES:
        expected = bm25(documents, query)
        logits = first_logits(model, query)[FIRST_CODE:]
        factor = (logits @ expected) / (expected @ expected)
        assert factor > 0
        np.testing.assert_allclose(logits, factor * expected, atol=2e-3 * logits.max())


def test_a_search_of_an_untouched_model_ranks_as_bm25():
    documents = draw(60)
    table = atomic(60)
    model, trie = start(documents, table), TorchTrie.from_trie(Trie.build(table))
    for query in QUERIES:
        ids = torch.tensor([query])
        rows, _ = beam_search(model, ids, torch.ones_like(ids), trie, k=10, beams=60)
        expected = bm25(documents, query)
        found = expected[rows[0].numpy()]
        best = np.sort(expected)[::-1][:10]
        np.testing.assert_allclose(found, best, atol=2e-3 * best[0])


def test_a_token_that_no_document_has_changes_little():
    documents = draw(60)
    model = start(documents, atomic(60))
    for query in QUERIES[1:]:
        with_unknown = first_logits(model, [*query, HIGHEST + 4])[FIRST_CODE:]
        expected = bm25(documents, query)
        assert np.corrcoef(with_unknown, expected)[0, 1] > 0.97
        assert expected[with_unknown.argmax()] == pytest.approx(expected.max())


def test_unused_codes_start_at_zero_and_end_behind_every_hit():
    documents = draw(60)
    model = start(documents, atomic(60))
    head = model.get_output_embeddings().weight
    assert float(head[:FIRST_CODE].detach().abs().max()) == 0.0
    assert first_logits(model, [5])[PAD] == 0.0


def test_empty_documents_are_never_preferred():
    documents = [*draw(20), [], []]
    model = start(documents, atomic(22))
    for query in QUERIES:
        logits = first_logits(model, query)[FIRST_CODE:]
        assert np.isfinite(logits).all()
        assert np.abs(logits[20:]).max() < 1e-3 * logits.max()


def test_a_corpus_of_empty_documents_only_gives_finite_weights():
    model = start([[], []], atomic(2))
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
    assert np.isfinite(first_logits(model, [5])).all()


def test_identical_documents_score_alike():
    documents = draw(20)
    model = start([*documents, documents[3], documents[3]], atomic(22))
    for query in QUERIES:
        logits = first_logits(model, query)[FIRST_CODE:]
        np.testing.assert_allclose(logits[20:], logits[3], atol=1e-3)


def test_one_document_of_one_token():
    model = start([[5]], atomic(1))
    assert first_logits(model, [5])[FIRST_CODE] > 1


def test_the_same_call_gives_the_same_weights_whatever_was_drawn_before():
    documents = draw(20)
    first = start(documents, atomic(20), "tiny", seed=3).state_dict()
    torch.manual_seed(99)
    again = start(documents, atomic(20), "tiny", seed=3).state_dict()
    other = start(documents, atomic(20), "tiny", seed=4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_it_leaves_the_global_random_state_alone():
    model = from_scratch("tiny", text_vocabulary=VOCABULARY, alphabet_size=22, documents=20)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    WARM_STARTS["spectral"](model, Corpus(draw(20), atomic(20)), 0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("kind", "codes"),
    [("naive", None), ("semantic", "shared"), ("semantic", "node"), ("random", "shared")],
)
def test_identifiers_of_several_codes_start_as_a_ranker_too(kind, codes):
    documents = draw(60)
    doc_ids = [f"d{row}" for row in range(60)]
    vectors = np.zeros((60, VOCABULARY), np.float32)
    for row, line in enumerate(documents):
        np.add.at(vectors[row], line, 1.0)
    chosen = KINDS[kind]
    options = TreeOptions(branching=4, leaf_capacity=4, codes=codes) if codes else chosen.Options()
    given = Documents(doc_ids, [""] * 60, lambda texts: vectors)
    table = chosen.build(given, options, 0).table
    model, trie = start(documents, table), TorchTrie.from_trie(Trie.build(table))
    ranks, firsts = [], set()
    for row, document in enumerate(documents):
        ids = torch.tensor([document])
        rows, scores = beam_search(model, ids, torch.ones_like(ids), trie, k=60, beams=60)
        assert torch.isfinite(scores).all()
        ranks.append(rows[0].tolist().index(row))
        firsts.add(int(rows[0, 0]))
    if kind == "semantic":  # only there do codes say something about the text
        assert np.mean(ranks) < 22  # 29.5 by chance; 13 to 18, as the clusters are drawn
    if codes == "node":  # each branch starts from its own documents
        assert np.mean(ranks) < 1
    assert len(firsts) > 1  # the text decides, not the identifiers alone


def test_a_bart_is_refused():
    model = BartForConditionalGeneration(
        BartConfig(
            vocab_size=VOCABULARY,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
        )
    )
    graft_docids(model, VOCABULARY, 22)
    with pytest.raises(InputError, match=r"not a BartForConditionalGeneration.*encodings"):
        WARM_STARTS["spectral"](model, Corpus(draw(20), atomic(20)), 0)


def test_narrow_attention_is_refused():
    from transformers import T5Config, T5ForConditionalGeneration

    model = T5ForConditionalGeneration(
        T5Config(vocab_size=22, d_model=16, d_kv=4, num_heads=2, d_ff=8, num_layers=1)
    )
    graft_docids(model, VOCABULARY, 22)
    with pytest.raises(InputError, match=r"heads x head width"):
        WARM_STARTS["spectral"](model, Corpus(draw(20), atomic(20)), 0)
