"""The spectral warm start: an untouched model computes latent semantic analysis, as numpy does."""

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
from dsi.backbones.backbone import from_scratch, set_docid_alphabet
from dsi.rows import WARM_STARTS, Corpus
from dsi.rows.spectral import term_counts, term_weights, token_vectors
from dsi.search.beam import beam_search
from dsi.search.torch_trie import TorchTrie

VOCABULARY = 120
FIRST_TOKEN = 3
HIGHEST = 110
"""Tokens from here on occur in no document."""
RANK = 253
"""Dimensions of the default network that hold vectors; the rank of every corpus here is less."""


def lsa(
    documents: list[list[int]], query: list[int], titles: list[list[int]] | None = None
) -> np.ndarray:
    """Cosines of a query with documents, as the book has latent semantic analysis.

    At full rank the basis is that of the whole row space, so that cosines of projections need no
    SVD of the kind that is tested: any orthonormal basis gives them.
    """
    counts = np.zeros((len(documents), VOCABULARY))
    for row, document in enumerate(documents):
        for token, count in Counter(document + (titles[row] if titles else [])).items():
            counts[row, token] = count
    having = (counts > 0).sum(axis=0)
    idf = np.array(
        [math.log(1 + (len(documents) - n + 0.5) / (n + 0.5)) if n else 0.0 for n in having]
    )
    weights = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0) * idf
    weights /= np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1e-12)
    _, singular, basis = np.linalg.svd(weights, full_matrices=False)
    basis = basis[singular > 1e-9 * max(singular[0], 1e-12)][:RANK]
    asked = np.zeros(VOCABULARY)
    for token in query:
        asked[token] += 1
    theirs, mine = counts * idf @ basis.T, asked * idf @ basis.T
    lengths = np.linalg.norm(theirs, axis=1) * np.linalg.norm(mine)
    return (theirs @ mine) / np.where(lengths > 0, lengths, 1)


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
    size: str = "latent",
    seed: int = 0,
    **settings,
):
    model = from_scratch(
        size, text_vocabulary=VOCABULARY, alphabet_size=table.alphabet_size, seed=seed
    )
    WARM_STARTS["spectral"].start(model, Corpus(tokens, table, **settings), seed)
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


def test_weights_of_terms_by_hand():
    counts = term_counts(Corpus([[3, 3, 4], [4]], atomic(2)), 6)
    np.testing.assert_array_equal(counts.toarray(), [[0, 0, 0, 2, 1, 0], [0, 0, 0, 0, 1, 0]])
    rare, common = math.log(1 + 1.5 / 1.5), math.log(1 + 0.5 / 2.5)
    first = np.array([(1 + math.log(2)) * rare, common])
    expected = [[0, 0, 0, *(first / np.linalg.norm(first)), 0], [0, 0, 0, 0, 1, 0]]
    np.testing.assert_allclose(term_weights(counts).toarray(), expected, atol=1e-6)


def test_many_documents_are_counted_as_few_are(monkeypatch):
    corpus = Corpus(draw(20), atomic(20), [[7], *[[]] * 19], 3)
    at_once = term_counts(corpus, VOCABULARY).toarray()
    monkeypatch.setattr("dsi.rows.spectral._TOGETHER", 6)
    np.testing.assert_array_equal(term_counts(corpus, VOCABULARY).toarray(), at_once)
    assert at_once[0, 7] == corpus.tokens[0].count(7) + 2


@pytest.mark.parametrize(("documents", "rank"), [(60, 20), (300, 40)])
def test_a_lower_rank_keeps_nearly_as_much_as_any_of_that_rank_can(documents, rank):
    counts = term_counts(Corpus(draw(documents), atomic(documents)), VOCABULARY)
    vectors = token_vectors(counts, rank, seed=0)
    assert vectors.shape == (VOCABULARY, rank)
    weights = term_weights(counts).toarray().astype(np.float64)
    having = (counts.toarray() > 0).sum(axis=0)
    idf = np.log1p((documents - having + 0.5) / (having + 0.5))
    basis = vectors.T / idf
    np.testing.assert_allclose(basis @ basis.T, np.eye(rank), atol=1e-4)
    left_over = np.linalg.norm(weights - weights @ basis.T @ basis)
    best = np.linalg.norm(np.linalg.svd(weights, compute_uv=False)[rank:])
    assert best <= left_over < 1.02 * best
    np.testing.assert_array_equal(vectors, token_vectors(counts, rank, seed=0))


@pytest.mark.parametrize("size", ["latent", "tiny"])
@pytest.mark.parametrize("weight", [2.0, 17.5])
def test_logits_of_an_untouched_model_are_cosines_times_the_weight(size, weight):
    documents = draw(60)
    model = start(documents, atomic(60), size, latent_weight=weight)
    assert model.config.d_model == 256
    for query in [*QUERIES, documents[7], [5] * 400 + [9]]:
        expected = weight * lsa(documents, query)
        np.testing.assert_allclose(
            first_logits(model, query)[FIRST_CODE:], expected, atol=2e-3 * weight
        )


def test_a_document_asks_for_itself_with_the_whole_weight():
    documents = draw(60)
    model = start(documents, atomic(60))
    for row in (0, 17, 59):
        assert first_logits(model, documents[row])[FIRST_CODE + row] == pytest.approx(2, abs=2e-3)


def test_titles_count_as_often_as_they_are_asked_to():
    documents, titles = draw(20), [[100 + row % 7] for row in range(20)]
    texts = [title + text for title, text in zip(titles, documents, strict=True)]
    model = start(texts, atomic(20), title_tokens=titles, title_weight=3)
    for query in QUERIES:
        expected = 2 * lsa(texts, query, [title * 2 for title in titles])
        np.testing.assert_allclose(first_logits(model, query)[FIRST_CODE:], expected, atol=4e-3)


def test_the_width_is_the_same_for_every_corpus():
    widths = {start(draw(n), atomic(n)).config.d_model for n in (1, 60, 400)}
    assert widths == {256}


def test_a_search_of_an_untouched_model_ranks_by_the_cosines():
    documents = draw(60)
    table = atomic(60)
    model, trie = start(documents, table), TorchTrie.from_trie(Trie.build(table))
    for query in QUERIES:
        ids = torch.tensor([query])
        rows, _ = beam_search(model, ids, torch.ones_like(ids), trie, k=10, beams=60)
        expected = lsa(documents, query)
        found = expected[rows[0].numpy()]
        best = np.sort(expected)[::-1][:10]
        np.testing.assert_allclose(found, best, atol=2e-3)


def test_a_token_that_no_document_has_changes_nothing():
    documents = draw(60)
    model = start(documents, atomic(60))
    for query in QUERIES:
        with_unknown = first_logits(model, [*query, HIGHEST + 4, HIGHEST + 5])
        np.testing.assert_allclose(with_unknown, first_logits(model, query), atol=1e-3)
    assert not first_logits(model, [HIGHEST + 4]).any()


def test_training_reaches_a_token_that_no_document_has_as_it_reaches_others():
    model = start(draw(60), atomic(60))
    query = [5, HIGHEST + 4]
    model(input_ids=torch.tensor([query]), labels=torch.tensor([[FIRST_CODE + 3]])).loss.backward()
    gradients = model.get_encoder().get_input_embeddings().weight.grad
    known, unknown = (float(gradients[token].norm()) for token in query)
    assert unknown > 0.1 * known > 0


def test_unused_codes_start_at_zero():
    model = start(draw(60), atomic(60))
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
    model = from_scratch("tiny", text_vocabulary=VOCABULARY, alphabet_size=22)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    WARM_STARTS["spectral"].start(model, Corpus(draw(20), atomic(20)), 0)
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
    # A weight so large that the content of a path outweighs its length.
    model = start(documents, table, latent_weight=20.0)
    trie = TorchTrie.from_trie(Trie.build(table))
    ranks, firsts = [], set()
    for row, document in enumerate(documents):
        ids = torch.tensor([document])
        rows, scores = beam_search(model, ids, torch.ones_like(ids), trie, k=60, beams=60)
        assert torch.isfinite(scores).all()
        ranks.append(rows[0].tolist().index(row))
        firsts.add(int(rows[0, 0]))
    if kind == "semantic":  # only there are codes related to the text
        assert np.mean(ranks) < 22  # 29.5 by chance; 13 to 18, depending on the clusters
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
    set_docid_alphabet(model, VOCABULARY, 22)
    with pytest.raises(InputError, match=r"not a BartForConditionalGeneration.*encodings"):
        WARM_STARTS["spectral"].start(model, Corpus(draw(20), atomic(20)), 0)


def test_narrow_attention_is_refused():
    from transformers import T5Config, T5ForConditionalGeneration

    model = T5ForConditionalGeneration(
        T5Config(vocab_size=22, d_model=16, d_kv=4, num_heads=2, d_ff=8, num_layers=1)
    )
    set_docid_alphabet(model, VOCABULARY, 22)
    with pytest.raises(InputError, match=r"heads x head width"):
        WARM_STARTS["spectral"].start(model, Corpus(draw(20), atomic(20)), 0)
