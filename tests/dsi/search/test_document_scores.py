"""Document scores added to those of the model, against full enumeration and by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from search_oracles import (
    ALPHABET,
    assert_found,
    children_of,
    log_probabilities,
    plain_beam_search,
    queries,
    renormalized,
    shared_model,
    tiny_model,
)

from data_prep.errors import InputError
from docids.table import END, DocidTable
from docids.trie import Trie
from dsi.search import beam
from dsi.search.beam import SCORES, beam_search
from dsi.search.lookahead import LookAhead
from dsi.search.torch_trie import TorchTrie
from dsi.search.unconstrained import unconstrained_search

cases = settings(max_examples=25, deadline=None, derandomize=True)
codes = st.integers(2, ALPHABET - 1)
atomic = st.lists(codes, min_size=1, max_size=8, unique=True).map(lambda s: [[(c,)] for c in s])
trees = st.lists(
    st.lists(codes, min_size=3, max_size=3).map(tuple), min_size=1, max_size=12, unique=True
).map(lambda identifiers: [[identifier] for identifier in identifiers])
ended = st.lists(codes, max_size=3).map(lambda s: (*s, END))
several = st.lists(st.lists(ended, min_size=1, max_size=3, unique=True), min_size=1, max_size=8)
few_codes = st.lists(st.integers(2, 3), max_size=2).map(lambda s: (*s, END))
shared = st.lists(st.lists(few_codes, min_size=1, max_size=2, unique=True), min_size=1, max_size=8)
corpora = st.one_of(atomic, trees, several, shared)
worth = st.one_of(st.just(0.0), st.floats(-5, 20, width=32))


def trie_of(documents) -> TorchTrie:
    table = DocidTable.from_sequences(
        [f"d{row}" for row in range(len(documents))],
        [identifier for identifiers in documents for identifier in identifiers],
        alphabet_size=ALPHABET,
        kind="test",
        counts=[len(identifiers) for identifiers in documents],
        shared=True,
    )
    return TorchTrie.from_trie(Trie.build(table))


@dataclass
class Scored:
    """Documents of some identifiers, of which some are searched, and a score of each."""

    documents: list[list[tuple[int, ...]]]
    kept: list[int]
    trie: TorchTrie
    scores: torch.Tensor

    @property
    def identifiers(self) -> list[tuple[int, ...]]:
        """Those of the documents that are searched, each once."""
        return sorted({one for row in self.kept for one in self.documents[row]})

    def added(self, query: int) -> dict[int, float]:
        """Place of an identifier -> the highest score of its documents."""
        return {
            place: max(self.scores[query, row].item() for row in self.kept
                       if identifier in self.documents[row])
            for place, identifier in enumerate(self.identifiers)
        }  # fmt: skip

    def merged(self, query: int, found: list[tuple[tuple[int, ...], float]]):
        """Identifiers found with their log-probabilities -> (row, score), best first."""
        total: dict[int, float] = {}
        for identifier, score in found:
            for row in self.kept:
                if identifier in self.documents[row]:
                    total[row] = total.get(row, 0.0) + math.exp(score)
        pairs = [(row, math.log(p) + self.scores[query, row].item()) for row, p in total.items()]
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


@st.composite
def scored(draw, lines: int) -> Scored:
    documents = draw(corpora)
    rows = range(len(documents))
    kept, trie = list(rows), trie_of(documents)
    if draw(st.booleans()):
        kept = sorted(draw(st.sets(st.sampled_from(rows), min_size=1)))
        trie = trie.restricted(torch.tensor([row in kept for row in rows]))
    line = st.lists(worth, min_size=len(documents), max_size=len(documents))
    return Scored(documents, kept, trie, torch.tensor([draw(line) for _ in range(lines)]))


models = st.builds(
    shared_model, st.sampled_from(["t5", "bart", "encoder-decoder"]), st.integers(0, 5), st.just(1)
)


@cases
@given(models, scored(2), st.sampled_from(SCORES), st.integers(0, 10**6), st.booleans())
def test_as_many_beams_as_identifiers_rank_every_document_exactly(model, case, score, seed, cut):
    """The sum of the probabilities of all identifiers of a document, plus its score."""
    ids, mask = queries([3, 1], seed)
    every = max(len(case.documents), len(case.identifiers))
    expected = []
    for query, steps in enumerate(log_probabilities(model, ids, mask, case.identifiers)):
        children = children_of(case.identifiers)
        found = []
        for identifier in case.identifiers:
            total = 0.0
            for place, code in enumerate(identifier):
                prefix = identifier[:place]
                values = steps[prefix]
                if score == "constrained":
                    values = renormalized(values, children[prefix])
                total += values[code]
            found.append((identifier, total))
        expected.append(case.merged(query, found))
    options = {"max_elements": 1} if cut else {}
    rows, scores = beam_search(
        model, ids, mask, case.trie, k=every, beams=every, score=score,
        document_scores=case.scores, **options,
    )  # fmt: skip
    assert_found((rows, scores), expected)


@cases
@given(models, scored(2), st.sampled_from(SCORES), st.integers(0, 10**6), st.integers(1, 4))
def test_narrow_beams_find_what_the_definition_finds(model, case, score, seed, beams):
    ids, mask = queries([2, 4], seed)
    expected = []
    for query, steps in enumerate(log_probabilities(model, ids, mask, case.identifiers)):
        added = case.added(query)
        kept = plain_beam_search(steps, case.identifiers, beams, beams, score=score, added=added)
        found = [(case.identifiers[place], total - added[place]) for place, total in kept]
        expected.append(case.merged(query, found)[:beams])
    found = beam_search(
        model, ids, mask, case.trie, k=beams, beams=beams, score=score, document_scores=case.scores
    )
    assert_found(found, expected)


@settings(deadline=None)
@given(scored(2))
def test_the_best_document_below_every_node(case):
    ahead = LookAhead(case.trie, case.scores)
    plain = case.identifiers
    below: dict[int, list[int]] = {}
    for place, identifier in enumerate(plain):
        node = torch.zeros(1, dtype=torch.int64)
        for code in identifier:
            node = case.trie.step(node, torch.tensor([code]), max(case.trie.branching))
            below.setdefault(node.item(), []).append(place)
    assert sorted(below) == list(range(1, len(case.trie.code)))
    nodes = torch.tensor([sorted(below)] * 2)
    found = ahead.of(torch.tensor([1, 0]), nodes)
    for line, query in enumerate([1, 0]):
        added = case.added(query)
        assert found[line].tolist() == [max(added[p] for p in below[n]) for n in sorted(below)]
    first = ahead.of_first_level()
    assert torch.equal(first, found[[1, 0], : first.shape[1]])


def of_known_probabilities(probabilities: dict[int, float]):
    """A model that gives each code the same probability after every query and prefix."""
    model = tiny_model("bart", 0)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.final_logits_bias.fill_(-1000.0)
        for code, probability in probabilities.items():
            model.final_logits_bias[0, code] = math.log(probability)
    return model


KNOWN = {2: 0.5, 3: 0.3, 4: 0.2}


def test_look_ahead_finds_the_document_that_one_beam_loses_without():
    """Prefix 2 has probability 0.5 and prefix 3 0.3, until the score of the document below 3."""
    model, trie = of_known_probabilities(KNOWN), trie_of([[(2, 2)], [(2, 3)], [(3, 4)]])
    lost, _ = beam_search(model, *queries([2], 0), trie, k=1, beams=1)
    assert lost.tolist() == [[0]]
    scores = torch.tensor([[0.0, 0.0, math.log(100.0)]])
    rows, found = beam_search(model, *queries([2], 0), trie, k=1, beams=1, document_scores=scores)
    assert rows.tolist() == [[2]]
    assert found.item() == pytest.approx(math.log(0.3 * 0.2 * 100), abs=1e-5)


def test_a_long_identifier_may_overtake_short_ones_until_its_document_is_known():
    """After the first code 0.5 and 0.3 are found, and 0.2 * 0.2 * 50 = 2 is still to come."""
    model, trie = of_known_probabilities(KNOWN), trie_of([[(2,)], [(3,)], [(4, 4, 2)]])
    scores = torch.tensor([[0.0, 0.0, math.log(50.0)]])
    rows, found = beam_search(model, *queries([2], 0), trie, k=2, beams=2, document_scores=scores)
    assert rows.tolist() == [[2, 0]]
    assert found[0].exp().tolist() == pytest.approx([0.2 * 0.2 * 0.5 * 50, 0.5], abs=1e-5)


def test_documents_of_one_identifier_come_in_the_order_of_their_scores():
    model, trie = of_known_probabilities(KNOWN), trie_of([[(2,)], [(2,)], [(2,)], [(3,)]])
    scores = torch.tensor([[0.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 9.0]])
    rows, found = beam_search(
        model, *queries([2, 1], 0), trie, k=2, beams=2, document_scores=scores
    )
    assert rows.tolist() == [[1, 2], [3, 0]]
    assert found[0].tolist() == pytest.approx([math.log(0.5) + 2, math.log(0.5) + 1], abs=1e-5)


def test_a_score_is_added_once_to_a_document_of_several_identifiers():
    model, trie = of_known_probabilities(KNOWN), trie_of([[(2,), (4,)], [(3,)]])
    scores = torch.tensor([[1.0, 2.0]])
    rows, found = beam_search(model, *queries([2], 0), trie, k=2, beams=3, document_scores=scores)
    assert rows.tolist() == [[1, 0]]
    assert found[0].tolist() == pytest.approx([math.log(0.3) + 2, math.log(0.7) + 1], abs=1e-5)


def test_very_many_documents_of_equal_scores_come_in_row_order(monkeypatch):
    """Codes that are in the order of the rows, and codes that are not."""
    monkeypatch.setattr(beam, "WIDE", 2)
    model = of_known_probabilities(dict.fromkeys(range(2, ALPHABET), 0.1))
    scores = torch.tensor([[1.0, 3.0, 2.0, 3.0, 2.0, 2.0, 0.0, 2.0, 3.0, 0.0]])
    in_order = list(range(2, ALPHABET))
    for codes in (in_order, in_order[::-1]):
        trie = trie_of([[(code,)] for code in codes])
        rows, found = beam_search(
            model, *queries([2], 0), trie, k=5, beams=5, document_scores=scores
        )
        assert rows.tolist() == [[1, 3, 8, 2, 4]]
        assert found[0].tolist() == pytest.approx(
            [math.log(0.1) + s for s in (3, 3, 3, 2, 2)], abs=1e-5
        )


@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 2), (3, 3)])
@pytest.mark.parametrize("search", [beam_search, unconstrained_search])
def test_scores_of_other_queries_or_documents_are_refused(search, shape):
    trie, batch = trie_of([[(2,)], [(3,)], [(4,)]]), queries([2, 1], 0)
    with pytest.raises(InputError, match="for 2 queries and 3 table rows"):
        search(tiny_model("t5", 0), *batch, trie, k=1, beams=1, document_scores=torch.zeros(shape))
