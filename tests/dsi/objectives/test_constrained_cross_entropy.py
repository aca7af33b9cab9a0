"""Each code competes only with the codes that are allowed in its position."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from docids.table import FIRST_CODE, DocidTable
from docids.trie import Trie
from dsi.objectives.base import IGNORED, Targets
from dsi.objectives.constrained_cross_entropy import AllowedContinuations, constrained_cross_entropy
from dsi.objectives.cross_entropy import CrossEntropy
from dsi.search.torch_trie import TorchTrie


def made(
    identifiers: list[tuple[int, ...]],
) -> tuple[DocidTable, TorchTrie, Targets, AllowedContinuations]:
    names = [f"d{number}" for number in range(len(identifiers))]
    table = DocidTable.from_sequences(
        names, identifiers, kind="naive", alphabet_size=1 + max(map(max, identifiers))
    )
    trie = TorchTrie.from_trie(Trie.build(table))
    targets = Targets.of(table.matrix(), table.alphabet_size, None)
    return table, trie, targets, AllowedContinuations.of(trie, targets.codes)


identifiers = st.sets(
    st.lists(st.integers(FIRST_CODE, FIRST_CODE + 3), min_size=3, max_size=3).map(tuple),
    min_size=1,
    max_size=12,
).map(sorted)


def by_hand(
    logits: np.ndarray,
    chosen: list[tuple[int, ...]],
    everyone: list[tuple[int, ...]],
    smoothing: float,
) -> float:
    total = 0.0
    for line, identifier in zip(logits, chosen, strict=True):
        for place, code in enumerate(identifier):
            among = sorted({x[place] for x in everyone if x[:place] == identifier[:place]})
            whole = math.log(sum(math.exp(line[place, other]) for other in among))
            logs = [float(line[place, other]) - whole for other in among]
            right = float(line[place, code]) - whole
            total -= (1 - smoothing) * right + smoothing * sum(logs) / len(logs)
    return total


@settings(max_examples=30, deadline=None)
@given(identifiers, st.integers(0, 2**31), st.sampled_from([0.0, 0.2]))
def test_it_is_the_cross_entropy_among_continuations_of_the_prefix(everyone, seed, smoothing):
    table, _, targets, continuations = made(everyone)
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(everyone), 5)
    logits = rng.normal(size=(5, 3, table.alphabet_size)).astype(np.float32)
    loss = constrained_cross_entropy(
        torch.from_numpy(logits),
        targets.codes[torch.from_numpy(rows)],
        torch.from_numpy(rows),
        continuations,
        label_smoothing=smoothing,
    )
    expected = by_hand(logits, [everyone[row] for row in rows], everyone, smoothing)
    assert float(loss) == pytest.approx(expected, abs=1e-4)


def test_codes_that_may_not_stand_there_have_no_say_and_get_no_gradient():
    a, b, c = FIRST_CODE, FIRST_CODE + 1, FIRST_CODE + 2
    _, _, targets, continuations = made([(a, a), (a, b), (b, c)])
    logits = torch.zeros(1, 2, c + 1, requires_grad=True)
    rows = torch.tensor([0])
    constrained_cross_entropy(logits, targets.codes[rows], rows, continuations).backward()
    touched = logits.grad[0].nonzero().tolist()
    assert touched == [[0, a], [0, b], [1, a], [1, b]]


def test_a_code_without_an_alternative_costs_nothing():
    a, b, c = FIRST_CODE, FIRST_CODE + 1, FIRST_CODE + 2
    _, _, targets, continuations = made([(a, c), (b, c)])
    rows = torch.tensor([1])
    loss = constrained_cross_entropy(
        torch.zeros(1, 2, c + 1), targets.codes[rows], rows, continuations
    )
    assert float(loss) == pytest.approx(math.log(2))


def test_competitors_narrow_it_further():
    a, b, c = FIRST_CODE, FIRST_CODE + 1, FIRST_CODE + 2
    _, _, targets, continuations = made([(a,), (b,), (c,)])
    among = torch.zeros(1, 1, c + 1, dtype=torch.bool)
    among[0, 0, [a, b]] = True
    rows = torch.tensor([0])
    loss = constrained_cross_entropy(
        torch.zeros(1, 1, c + 1), targets.codes[rows], rows, continuations, competitors=among
    )
    assert float(loss) == pytest.approx(math.log(2))


def test_an_identifier_that_ends_early_is_ignored_past_its_end():
    a, b = FIRST_CODE, FIRST_CODE + 1
    _, _, targets, continuations = made([(a,), (b, a), (b, b)])
    assert targets.codes[0].tolist() == [a, IGNORED]
    rows = torch.tensor([0])
    loss = constrained_cross_entropy(
        torch.zeros(1, 2, b + 1), targets.codes[rows], rows, continuations
    )
    assert float(loss) == pytest.approx(math.log(2))


def test_the_term_takes_it_in_place_of_the_whole_alphabet():
    a, b, c = FIRST_CODE, FIRST_CODE + 1, FIRST_CODE + 2
    table, trie, whole, _ = made([(a, c), (b, c)])
    narrow = Targets.of(table.matrix(), table.alphabet_size, None, trie)
    logits = torch.zeros(1, 2, table.alphabet_size)
    losses = []
    for targets in (whole, narrow):
        forward: Any = SimpleNamespace(
            logits=logits, codes=targets.codes[:1], rows=torch.tensor([0]), targets=targets
        )
        losses.append(float(CrossEntropy().of_examples(forward)))
    assert losses == pytest.approx([2 * math.log(table.alphabet_size), math.log(2)])
