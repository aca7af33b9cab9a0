"""Search without the trie, against its definition in loops and against all sequences."""

from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from search_oracles import (
    FAMILIES,
    prefix_free,
    queries,
    table_of,
    tiny_model,
    torch_trie,
    with_end,
)

from data_prep.errors import InputError
from docids.table import END
from dsi.search.unconstrained import unconstrained_search

ALPHABET = 6
cases = settings(max_examples=25, deadline=None, derandomize=True)
identifiers = st.tuples(
    st.sampled_from([with_end, prefix_free]),
    st.sets(
        st.lists(st.integers(2, ALPHABET - 1), min_size=1, max_size=3).map(tuple),
        min_size=1,
        max_size=12,
    ),
).map(lambda pair: pair[0](pair[1]))


@functools.cache
def models(family="t5", seed=0):
    return tiny_model(family, seed, 1, ALPHABET)


class Steps:
    """The log-probabilities of the next code after any prefix, by a pass through the model."""

    def __init__(self, model, ids, mask):
        self.model, self.ids, self.mask = model, ids, mask
        self.known = {}

    @torch.no_grad()
    def __call__(self, prefix):
        if prefix not in self.known:
            logits = self.model(
                input_ids=self.ids,
                attention_mask=self.mask,
                decoder_input_ids=torch.tensor([[0, *prefix]]),
                use_cache=False,
            ).logits[0, -1]
            self.known[prefix] = torch.log_softmax(logits.double(), dim=-1).tolist()
        return self.known[prefix]


def plain_search(steps, sequences, k, beams, added):
    """The definition; one query, with what is added to each document."""
    longest = max(map(len, sequences))
    running, complete = [((), 0.0)], []
    for length in range(1, longest + 1):
        continuations = [
            ((*prefix, code), total + steps(prefix)[code])
            for prefix, total in running
            for code in range(ALPHABET)
        ]
        continuations.sort(key=lambda pair: -pair[1])

        def ends(sequence, length=length):
            return sequence in sequences or sequence[-1] == END or length == longest

        complete += [pair for pair in continuations[:beams] if ends(pair[0])]
        complete = sorted(complete, key=lambda pair: -pair[1])[:beams]
        running = [pair for pair in continuations if not ends(pair[0])][:beams]
    found = [(sequences.index(s), total) for s, total in complete if s in sequences]
    found = [(row, total + added[row]) for row, total in found]
    return sorted(found, key=lambda pair: -pair[1])[:k]


def checked(rows, scores, expected):
    for row_line, score_line, pairs in zip(rows.tolist(), scores.tolist(), expected, strict=True):
        filled = [*pairs, *[(-1, -math.inf)] * (len(row_line) - len(pairs))]
        assert row_line == [row for row, _ in filled]
        assert score_line == pytest.approx([score for _, score in filled], rel=1e-4, abs=1e-4)


@given(
    identifiers,
    st.sampled_from(FAMILIES),
    st.integers(0, 5),
    st.lists(st.integers(1, 6), min_size=1, max_size=3),
    st.integers(1, 8),
    st.data(),
)
@cases
def test_it_finds_what_the_definition_finds(docids, family, seed, lengths, beams, data):
    model = models(family, seed)
    ids, mask = queries(lengths, seed, ALPHABET)
    k = data.draw(st.integers(1, beams))
    trie = torch_trie(table_of(docids, ALPHABET))
    added = None
    if data.draw(st.booleans()):
        worth = st.lists(st.floats(0, 9, width=32), min_size=len(docids), max_size=len(docids))
        added = torch.tensor([data.draw(worth) for _ in lengths])
    rows, scores = unconstrained_search(
        model, ids, mask, trie, k=k, beams=beams, document_scores=added
    )
    expected = [
        plain_search(Steps(model, ids[q : q + 1], mask[q : q + 1]), docids, k, beams, worth)
        for q, worth in enumerate(
            [[0.0] * len(docids)] * len(ids) if added is None else added.tolist()
        )
    ]
    checked(rows, scores, expected)


def test_with_a_beam_for_every_sequence_it_ranks_all_documents_exactly():
    docids = prefix_free({(2, 3), (2, 4), (3, 2), (5, 5), (4,)})
    model = models(seed=3)
    ids, mask = queries([4], 0, ALPHABET)
    steps = Steps(model, ids, mask)
    exact = [
        (row, math.fsum(steps(s[:place])[code] for place, code in enumerate(s)))
        for row, s in enumerate(docids)
    ]
    exact.sort(key=lambda pair: -pair[1])
    every = sum(1 for n in (1, 2) for _ in itertools.product(range(ALPHABET), repeat=n))
    trie = torch_trie(table_of(docids, ALPHABET))
    rows, scores = unconstrained_search(model, ids, mask, trie, k=5, beams=every)
    checked(rows, scores, [exact])


def test_sequences_of_no_document_take_the_places_of_documents():
    ids, mask = queries([3], 0, ALPHABET)
    for seed in range(100):  # the weights for a seed depend on the library
        model = models(seed=seed)
        steps = Steps(model, ids, mask)(())
        likeliest = max(range(ALPHABET), key=lambda code: steps[code])
        if likeliest not in (0, END):
            break
    docids = [(code,) for code in range(2, ALPHABET) if code != likeliest]
    assert likeliest not in (0, END)
    trie = torch_trie(table_of(docids, ALPHABET))
    rows, scores = unconstrained_search(model, ids, mask, trie, k=1, beams=1)
    assert rows.tolist() == [[-1]]
    assert scores.tolist() == [[-math.inf]]


def test_batches_change_nothing():
    docids = with_end({(2, 3), (2, 4), (3,), (5, 5)})
    ids, mask = queries([4, 2, 6], 1, ALPHABET)
    trie = torch_trie(table_of(docids, ALPHABET))
    model = models(seed=2)
    once = unconstrained_search(model, ids, mask, trie, k=4, beams=20)
    one_by_one = unconstrained_search(model, ids, mask, trie, k=4, beams=20, max_elements=1)
    assert torch.equal(once[0], one_by_one[0])
    torch.testing.assert_close(once[1], one_by_one[1])


def test_too_few_beams_are_refused():
    trie = torch_trie(table_of([(2,), (3,)], ALPHABET))
    ids, mask = queries([2], 0, ALPHABET)
    with pytest.raises(InputError, match="1 beams cannot find 2 documents"):
        unconstrained_search(models(), ids, mask, trie, k=2, beams=1)
