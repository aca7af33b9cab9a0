"""The search against `generate` with a Python trie, and against its definition in loops.

DSI_SEARCH_CASES sets the number of random cases per property. The slow test tries 10,000
cases against the definition alone, in minutes.
"""

import dataclasses
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from search_oracles import (
    ALPHABET,
    FAMILIES,
    assert_found,
    difference,
    every_document,
    log_probabilities,
    plain_beam_search,
    prefix_fn,
    prefix_free,
    queries,
    random_case,
    shared_model,
    table_of,
    tiny_model,
    torch_trie,
    with_end,
)

from data_prep.errors import InputError
from docids.table import PAD
from dsi.search import beam
from dsi.search.beam import SCORES, beam_search
from dsi.search.decoders.tree import TreeDecoder
from dsi.search.torch_trie import TorchTrie

cases = settings(
    max_examples=int(os.environ.get("DSI_SEARCH_CASES", "25")), deadline=None, derandomize=True
)
models = st.builds(shared_model, st.sampled_from(FAMILIES), st.integers(0, 30), st.integers(1, 2))
codes = st.integers(2, ALPHABET - 1)
sequences = st.lists(codes, min_size=1, max_size=4).map(tuple)
batches = st.builds(
    queries, st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 10**6)
)


def identifier_sets(sequence, largest=25):
    return st.sets(sequence, min_size=1, max_size=largest)


fixed_length = st.integers(1, 3).flatmap(
    lambda length: identifier_sets(st.lists(codes, min_size=length, max_size=length).map(tuple))
)


def generated(model, ids, mask, docids, beams, length):
    """What `generate` finds: for each query (row, score), without its filling."""
    common = {
        "attention_mask": mask,
        "prefix_allowed_tokens_fn": prefix_fn(docids),
        "do_sample": False,
        "max_new_tokens": length,
        "return_dict_in_generate": True,
    }
    if beams == 1:
        # `generate` is greedy then, and gives no scores of sequences.
        output = model.generate(ids, output_logits=True, **common)
        chosen = output.sequences[:, 1:]
        steps = torch.stack(output.logits, dim=1).log_softmax(-1).gather(2, chosen.unsqueeze(-1))
        # Everything after END is padding.
        scores = (steps.squeeze(-1) * (chosen != PAD)).sum(1)
    else:
        output = model.generate(
            ids,
            num_beams=beams,
            num_return_sequences=beams,
            length_penalty=0.0,
            early_stopping="never",
            output_scores=True,
            **common,
        )
        scores = output.sequences_scores
    results = []
    for sequence, score in zip(output.sequences.tolist(), scores.tolist(), strict=True):
        if score > -1e8:
            row = next(row for row, d in enumerate(docids) if tuple(sequence[1 : len(d) + 1]) == d)
            results.append((row, score))
        else:
            results.append((-1, -np.inf))
    return [results[place : place + beams] for place in range(0, len(results), beams)]


@cases
@given(models, identifier_sets(sequences).map(with_end), batches, st.integers(1, 30))
def test_finds_what_generate_finds_where_identifiers_end_in_end(model, docids, batch, beams):
    expected = generated(model, *batch, docids, beams, max(map(len, docids)))
    found = beam_search(model, *batch, torch_trie(table_of(docids)), k=beams, beams=beams)
    assert_found(found, expected)


@cases
@given(models, fixed_length.map(prefix_free), batches, st.integers(1, 30))
def test_finds_what_generate_finds_where_identifiers_have_one_length(model, docids, batch, beams):
    expected = generated(model, *batch, docids, beams, len(docids[0]))
    found = beam_search(model, *batch, torch_trie(table_of(docids)), k=beams, beams=beams)
    assert_found(found, expected)


@st.composite
def options(draw, queries: int, documents: int, beams: int):
    """Options of a search, and the same for its definition, one for each query."""
    chosen = {"score": draw(st.sampled_from(SCORES))}
    if draw(st.booleans()):
        chosen |= {"first_beams": draw(st.integers(1, 9)), "first_levels": draw(st.integers(1, 3))}
    if draw(st.booleans()):
        chosen["starts"] = draw(st.integers(1, beams))
    plain = [dict(chosen) for _ in range(queries)]
    if draw(st.booleans()):
        worth = [[draw(st.floats(0, 3, width=32)) for _ in range(documents)] for _ in plain]
        chosen["document_scores"] = torch.tensor(worth, dtype=torch.float32)
        for line, scores in zip(plain, worth, strict=True):
            line["added"] = dict(enumerate(scores))
    return chosen, plain


@cases
@given(models, identifier_sets(sequences).map(prefix_free), batches, st.integers(1, 8), st.data())
def test_finds_what_its_definition_finds_under_every_option(model, docids, batch, beams, data):
    k = data.draw(st.integers(1, beams))
    chosen, plain = data.draw(options(len(batch[0]), len(docids), beams))
    expected = [
        plain_beam_search(steps, docids, k, beams, **line)
        for steps, line in zip(log_probabilities(model, *batch, docids), plain, strict=True)
    ]
    trie = torch_trie(table_of(docids))
    found = beam_search(model, *batch, trie, k=k, beams=beams, **chosen)
    assert_found(found, expected)


@cases
@given(models, identifier_sets(sequences).map(prefix_free), batches, st.integers(0, 3))
def test_as_many_beams_as_documents_rank_every_document(model, docids, batch, more):
    beams = len(docids) + more
    expected = [every_document(s, docids) for s in log_probabilities(model, *batch, docids)]
    found = beam_search(model, *batch, torch_trie(table_of(docids)), k=beams, beams=beams)
    assert_found(found, expected)


@cases
@given(
    models,
    identifier_sets(sequences).map(prefix_free),
    batches,
    st.sampled_from(SCORES),
    st.data(),
)
def test_searching_a_part_of_the_trie_is_searching_a_trie_of_that_part(
    model, docids, batch, score, data
):
    stay = data.draw(st.sets(st.sampled_from(range(len(docids))), min_size=1))
    table = table_of(docids)
    retired = table.retire([f"d{row}" for row in range(len(docids)) if row not in stay])
    live = torch.tensor([row in stay for row in range(len(docids))])
    of_part = torch_trie(retired)
    part = torch_trie(table).restricted(live)
    for entry in dataclasses.fields(TorchTrie):
        ours, theirs = getattr(part, entry.name), getattr(of_part, entry.name)
        assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs
    found = beam_search(model, *batch, part, k=3, beams=4, score=score)
    expected = beam_search(model, *batch, of_part, k=3, beams=4, score=score)
    assert torch.equal(found[0], expected[0])


def differences(seeds: range) -> list[str]:
    found = []
    for seed in seeds:
        case = random_case(seed)
        words = difference(case, *beam_search(**case.arguments))
        found += [f"case {seed}: {words}"] * bool(words)
    return found


def test_random_cases_with_any_of_the_options_do_not_differ_from_the_definition():
    assert differences(range(100)) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_random_cases_do_not_differ_from_the_definition():
    assert differences(range(10_000)) == []


DOCIDS = with_end({(2, 3), (2,), (3, 4, 5), (4,), (2, 3, 6), (5, 5), (5, 6, 7)})


def test_very_many_candidates_give_the_same_documents(monkeypatch):
    model, batch, trie = tiny_model("t5", 3), queries([3, 1, 5], 3), torch_trie(table_of(DOCIDS))
    expected = beam_search(model, *batch, trie, k=3, beams=3)
    monkeypatch.setattr(beam, "WIDE", 2)
    found = beam_search(model, *batch, trie, k=3, beams=3)
    assert torch.equal(found[0], expected[0])
    with torch.no_grad():
        model.lm_head.weight.zero_()
    rows, _ = beam_search(
        model, *batch, torch_trie(table_of([(5,), (2,), (4,), (3,)])), k=3, beams=3
    )
    assert rows.tolist() == [[0, 1, 2]] * 3


def test_no_document_left_to_search_among_is_told():
    trie = torch_trie(table_of(DOCIDS))
    with pytest.raises(InputError, match="there is no document left"):
        trie.restricted(torch.zeros(len(DOCIDS), dtype=torch.bool))


def test_a_batch_cut_into_pieces_finds_the_same():
    model, batch, trie = tiny_model("t5", 3), queries([3, 1, 5, 2], 3), torch_trie(table_of(DOCIDS))
    whole = beam_search(model, *batch, trie, k=4, beams=4)
    pieces = beam_search(model, *batch, trie, k=4, beams=4, max_elements=1)
    assert torch.equal(whole[0], pieces[0])
    torch.testing.assert_close(whole[1], pieces[1])


def test_the_size_of_a_piece_follows_from_max_elements(monkeypatch):
    sizes = []
    start = beam.start_decoder
    monkeypatch.setattr(beam, "start_decoder", lambda *a: (sizes.append(len(a[1])), start(*a))[1])
    model, batch, trie = (
        tiny_model("t5", 3),
        queries([3, 1, 5, 2, 2], 3),
        torch_trie(table_of(DOCIDS)),
    )
    needed = beam.elements_per_query(model, 5, trie, 4)
    beam_search(model, *batch, trie, k=4, beams=4, max_elements=2 * needed)
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", [0, 1, 3])
def test_an_empty_query_gets_numbers_and_does_not_disturb_the_others(family, width):
    model, trie = tiny_model(family, 1), torch_trie(table_of(DOCIDS))
    ids, mask = torch.full((1, width), PAD), torch.zeros((1, width), dtype=torch.int64)
    rows, scores = beam_search(model, ids, mask, trie, k=7, beams=7)
    assert sorted(rows[0].tolist()) == list(range(7))
    assert torch.isfinite(scores).all()
    if width == 3:
        other_ids, other_mask = queries([3], 0)
        alone = beam_search(model, other_ids, other_mask, trie, k=7, beams=7)
        both = beam_search(
            model, torch.cat([ids, other_ids]), torch.cat([mask, other_mask]), trie, k=7, beams=7
        )
        torch.testing.assert_close(both[1][1], alone[1][0])


def test_no_query_gives_no_result():
    ids = torch.empty((0, 3), dtype=torch.int64)
    rows, scores = beam_search(
        tiny_model("t5", 1), ids, ids, torch_trie(table_of(DOCIDS)), k=2, beams=2
    )
    assert rows.shape == scores.shape == (0, 2)


def test_documents_of_equal_score_come_in_row_order_also_where_the_beams_end():
    model = tiny_model("t5", 1)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    docids = [(5, 2), (2, 4), (5, 3), (2, 3), (4, 2)]
    trie = torch_trie(table_of(docids))
    rows, _ = beam_search(model, *queries([2, 3], 0), trie, k=5, beams=5)
    assert rows.tolist() == [[0, 1, 2, 3, 4]] * 2
    # Two beams: the prefixes 5 (lowest row 0) and 2 (lowest row 1).
    rows, _ = beam_search(model, *queries([2, 3], 0), trie, k=2, beams=2)
    assert rows.tolist() == [[0, 1]] * 2


def test_a_document_without_probability_is_not_found():
    model = tiny_model("bart", 1)
    model.final_logits_bias[0, 4] = -torch.inf
    rows, scores = beam_search(
        model, *queries([2], 0), torch_trie(table_of([(2,), (3,), (4,)])), k=3, beams=3
    )
    assert sorted(rows[0, :2].tolist()) == [0, 1]
    assert rows[0, 2] == -1
    assert scores[0, 2] == -torch.inf


def test_a_model_that_gives_no_numbers_finds_nothing():
    model = tiny_model("bart", 1)
    model.final_logits_bias[:] = torch.nan
    rows, scores = beam_search(model, *queries([2], 0), torch_trie(table_of(DOCIDS)), k=3, beams=3)
    assert rows.tolist() == [[-1] * 3]
    assert scores.tolist() == [[-np.inf] * 3]


def test_scores_are_float32_where_the_model_runs_in_bfloat16():
    trie, batch = torch_trie(table_of(DOCIDS)), queries([3, 2], 0)
    full = beam_search(tiny_model("t5", 2), *batch, trie, k=7, beams=7)
    half = beam_search(tiny_model("t5", 2).bfloat16(), *batch, trie, k=7, beams=7)
    assert half[1].dtype == torch.float32
    by_row = [
        scores[rows.argsort()]
        for rows, scores in ((full[0][0], full[1][0]), (half[0][0], half[1][0]))
    ]
    torch.testing.assert_close(by_row[0], by_row[1], atol=0.3, rtol=0.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_search_inside_autocast_gives_near_scores(family):
    model, trie, batch = tiny_model(family, 2), torch_trie(table_of(DOCIDS)), queries([3, 2], 0)
    full = beam_search(model, *batch, trie, k=7, beams=7)
    with torch.autocast("cpu", torch.bfloat16):
        half = beam_search(model, *batch, trie, k=7, beams=7)
    for line in range(2):
        by_row = [found[1][line][found[0][line].argsort()] for found in (full, half)]
        torch.testing.assert_close(by_row[0], by_row[1], atol=0.5, rtol=0.0)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_layers_with_something_around_them_are_asked_themselves(family):
    class Doubled(torch.nn.Linear):
        """A layer that is more than its weight, as an adapter is."""

        def forward(self, states):
            return 2 * super().forward(states)

    model, trie, batch = tiny_model(family, 2), torch_trie(table_of(DOCIDS)), queries([3, 2], 0)
    plain = beam_search(model, *batch, trie, k=7, beams=7)
    model.lm_head.__class__ = Doubled
    found = beam_search(model, *batch, trie, k=7, beams=7)
    expected = [every_document(s, DOCIDS) for s in log_probabilities(model, *batch, DOCIDS)]
    assert_found(found, expected)
    assert not torch.allclose(found[1], plain[1])


def test_dropout_is_off_during_the_search_and_on_again_after_it():
    model = tiny_model("t5", 2)
    trie, batch = torch_trie(table_of(DOCIDS)), queries([3, 2], 0)
    expected = beam_search(model, *batch, trie, k=3, beams=3)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.9
    model.train()
    found = beam_search(model, *batch, trie, k=3, beams=3)
    assert model.training
    torch.testing.assert_close(found, expected)
    model.eval().get_decoder().train()  # the whole model says that it is in evaluation mode
    torch.testing.assert_close(beam_search(model, *batch, trie, k=3, beams=3), expected)


def test_a_decoder_deeper_than_the_encoder_is_searched_exactly():
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=ALPHABET,
            d_model=16,
            d_kv=8,
            d_ff=16,
            num_layers=1,
            num_decoder_layers=3,
            num_heads=2,
            decoder_start_token_id=0,
        )
    ).eval()
    batch = queries([3], 0)
    found = beam_search(model, *batch, torch_trie(table_of(DOCIDS)), k=7, beams=7)
    [steps] = log_probabilities(model, *batch, DOCIDS)
    assert_found(found, [every_document(steps, DOCIDS)])


@pytest.mark.parametrize(("k", "beams", "words"), [(0, 3, "at least 1"), (3, 2, "at least 3")])
def test_impossible_sizes_are_refused(k, beams, words):
    with pytest.raises(InputError, match=words):
        beam_search(
            tiny_model("t5", 1), *queries([2], 0), torch_trie(table_of(DOCIDS)), k=k, beams=beams
        )


WIDE_START = [(2, 3, 4), (2, 4, 4), (3, 2, 2), (3, 4, 5), (4, 5, 2), (4, 3, 3), (4, 3, 2)]
"""Three first codes, each followed by a branch."""
BRANCHING_START = [(a, b, c) for a in (2, 3, 4) for b in (3, 5) for c in (2, 4)]
"""Three first codes, each followed by two codes with a branch after them."""


@pytest.mark.parametrize("beams", [3, 4, 7])
@pytest.mark.parametrize(
    ("docids", "few_rows", "read"),
    [
        (WIDE_START, 0, 3),
        (WIDE_START, 64, 3),
        (BRANCHING_START, 29, 3),
        (BRANCHING_START, 30, 9),
    ],
)
@pytest.mark.parametrize("family", ["t5", "bart"])
def test_reading_the_first_codes_with_the_root_changes_nothing(
    beams, docids, few_rows, read, family, monkeypatch
):
    """With three first codes and at least as many beams, two steps are one.

    So are three if the rows of all queries are few: the root, 3 nodes and 6 nodes for each of 3.
    Not if an identifier is unbranched from there on: its query may leave the batch.
    """
    model, batch, trie = (
        tiny_model(family, 1),
        queries([2, 4, 1], 0),
        torch_trie(table_of(docids)),
    )
    calls = []
    original = TreeDecoder.begin
    monkeypatch.setattr(
        TreeDecoder,
        "begin",
        lambda self, codes, parents: calls.append(len(codes)) or original(self, codes, parents),
    )
    monkeypatch.setattr(beam, "FEW_ROWS", few_rows)
    found = beam_search(model, *batch, trie, k=3, beams=beams)
    assert calls == [read]
    monkeypatch.setattr(TreeDecoder, "begins", 0)
    expected = beam_search(model, *batch, trie, k=3, beams=beams)
    assert calls == [read]
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=0)


LONG_TAILS = [(2, 3, 4, 5, 6), (2, 4, 4, 2), (3, 2, 2), (3, 4, 5, 5, 5, 6), (4, 5, 2), (4, 3, 3, 2)]
"""Two or one continuation of each first code, and unbranched ends of different lengths."""


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("rows", "pieces"), [(1, 18), (10, 9), (50, 2), (2**20, 1)])
def test_unbranched_ends_read_in_pieces_give_what_one_step_after_the_other_gives(
    family, rows, pieces, monkeypatch
):
    model, batch = tiny_model(family, 2), queries([2, 4, 1], 0)
    trie = torch_trie(table_of(LONG_TAILS))
    calls = []
    tails = beam.start_decoder(model, *batch).__class__
    original = tails.tails
    monkeypatch.setattr(
        tails, "tails", lambda *a: (calls.append(a[1].shape[2] > 1), original(*a))[1]
    )
    monkeypatch.setattr(beam, "TAIL_ROWS", rows)
    found = beam_search(model, *batch, trie, k=6, beams=6)
    assert sum(calls) == pieces
    step_by_step = dataclasses.replace(trie, chains=(0,) * len(trie.chains))
    expected = beam_search(model, *batch, step_by_step, k=6, beams=6)
    assert sum(calls) == pieces
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=0)
