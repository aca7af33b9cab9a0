"""From identifiers to documents: against the definition in loops, and through beam search."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from search_oracles import ALPHABET, every_document, log_probabilities, queries, tiny_model

from docids.table import END, DocidTable
from docids.trie import Trie
from dsi.search.beam import beam_search
from dsi.search.merging import documents_of
from dsi.search.torch_trie import TorchTrie

cases = settings(max_examples=25, deadline=None, derandomize=True)
several = st.lists(
    st.lists(st.integers(2, ALPHABET - 1), max_size=2).map(lambda s: (*s, END)),
    min_size=1,
    max_size=3,
    unique=True,
)
corpora = st.lists(several, min_size=1, max_size=8)


def table_of(documents):
    return DocidTable.from_sequences(
        [f"d{i}" for i in range(len(documents))],
        [identifier for identifiers in documents for identifier in identifiers],
        alphabet_size=ALPHABET,
        kind="test",
        counts=[len(identifiers) for identifiers in documents],
        shared=True,
    )


def plain_merge(found, documents, k):
    """(identifier, score) pairs -> (row, score) pairs, best first."""
    total = {}
    for identifier, score in found:
        for row, identifiers in enumerate(documents):
            if identifier in identifiers:
                total[row] = total.get(row, 0.0) + math.exp(score)
    ranked = sorted(total, key=lambda row: (-total[row], row))
    return [(row, math.log(total[row])) for row in ranked[:k]]


@cases
@given(corpora, st.integers(1, 5), st.data())
def test_each_document_once_with_the_sum_of_its_probabilities(documents, k, data):
    table = table_of(documents)
    plain = Trie.build(table)
    distinct = sorted({s for identifiers in documents for s in identifiers})
    scores = [-0.5 * (i + 1) for i in range(len(distinct))]
    found = data.draw(st.lists(st.sampled_from(distinct), min_size=1, unique=True))
    leaves = torch.tensor([[plain.walk(s) for s in found], [-1] * len(found)])
    values = torch.tensor([scores[: len(found)], [-math.inf] * len(found)])
    rows, merged = documents_of(leaves, values, TorchTrie.from_trie(plain), k)
    expected = plain_merge(list(zip(found, scores, strict=False)), documents, k)
    assert rows[0, : len(expected)].tolist() == [row for row, _ in expected]
    assert merged[0, : len(expected)].tolist() == pytest.approx([s for _, s in expected], abs=1e-5)
    assert (rows[0, len(expected) :] == -1).all()
    assert (rows[1] == -1).all()
    assert (merged[1] == -math.inf).all()


@cases
@given(corpora, st.integers(0, 10**6))
def test_searching_everything_ranks_documents_by_their_total_probability(documents, seed):
    model = tiny_model("t5", seed)
    ids, mask = queries([3, 1], seed)
    distinct = sorted({s for identifiers in documents for s in identifiers})
    trie = TorchTrie.from_trie(Trie.build(table_of(documents)))
    wanted = max(len(documents), len(distinct))
    rows, scores = beam_search(model, ids, mask, trie, k=wanted, beams=wanted)
    for query in range(2):
        part = slice(query, query + 1)
        [steps] = log_probabilities(model, ids[part], mask[part], distinct)
        identifiers = every_document(steps, distinct)
        expected = plain_merge(
            [(distinct[number], score) for number, score in identifiers], documents, wanted
        )
        found = [row for row in rows[query].tolist() if row >= 0]
        assert sorted(found) == list(range(len(documents)))
        by_row = dict(expected)
        measured = scores[query, : len(found)].tolist()
        assert measured == pytest.approx([by_row[row] for row in found], rel=1e-4, abs=1e-4)
        assert measured == sorted(measured, reverse=True)


def test_fewer_beams_than_documents_of_one_identifier():
    trie = TorchTrie.from_trie(Trie.build(table_of([[(2, END)], [(2, END)], [(2, END)]])))
    ids, mask = queries([2], 0)
    rows, scores = beam_search(tiny_model("t5", 0), ids, mask, trie, k=2, beams=2)
    assert rows.tolist() == [[0, 1]]
    assert scores[0, 0] == scores[0, 1]


@cases
@given(corpora, st.data())
def test_a_part_of_the_trie_is_the_trie_of_that_part(documents, data):
    stay = data.draw(st.sets(st.sampled_from(range(len(documents))), min_size=1))
    table = table_of(documents)
    retired = table.retire([f"d{row}" for row in range(len(documents)) if row not in stay])
    live = torch.tensor([row in stay for row in range(len(documents))])
    of_part = TorchTrie.from_trie(Trie.build(retired))
    part = TorchTrie.from_trie(Trie.build(table)).restricted(live)
    for entry in dataclasses.fields(TorchTrie):
        ours, theirs = getattr(part, entry.name), getattr(of_part, entry.name)
        assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs
