"""Learned codes on toy data: purer than chance, balanced, deterministic, and each loss counts."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import InputError
from docids.code_learning import Learner, LearningOptions, balanced
from docids.kinds import KINDS, Documents
from docids.quality import measure

SMALL = LearningOptions(width=32, epochs=6, batch=64)
SIZE = 4


def clustered(count=120, groups=4):
    rng = np.random.default_rng(0)
    group = np.arange(count) % groups
    vectors = rng.normal(size=(groups, 8))[group] + 0.2 * rng.normal(size=(count, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    owners = np.repeat(np.arange(count), 3)
    queries = vectors[owners] + 0.05 * rng.normal(size=(len(owners), 8))
    return vectors.astype(np.float32), queries.astype(np.float32), owners


DOCUMENTS, QUERIES, OWNERS = clustered()


def trained(options=SMALL, seed=0):
    return Learner.train(
        DOCUMENTS, QUERIES, OWNERS, levels=2, size=SIZE, options=options, seed=seed
    )


LEARNER, CODES = trained()


def test_the_first_code_says_what_a_document_is_about():
    near = (DOCUMENTS @ DOCUMENTS.T).argsort(axis=1)[:, -6:-1]
    same = (CODES[near, 0] == CODES[:, :1]).mean()
    assert same > 0.8  # chance is about a quarter


def test_codes_are_balanced_at_each_position():
    for level in range(2):
        shares = np.bincount(CODES[:, level], minlength=SIZE) / len(CODES)
        assert np.exp(-(shares * np.log(shares)).sum()) > 0.9 * SIZE
    # Those with the same first code are spread over all second ones.
    pairs = np.bincount(CODES @ [SIZE, 1], minlength=SIZE**2)
    assert pairs.min() > 0


def test_a_query_is_given_the_codes_of_its_document():
    found = LEARNER.encode(QUERIES)
    assert (found[:, 0] == CODES[OWNERS, 0]).mean() > 0.8
    assert (found == CODES[OWNERS]).all(axis=1).mean() > 0.4  # chance is a sixteenth


def test_the_same_seed_gives_the_same_codes_and_another_does_not():
    learner, codes = trained()
    assert (codes == CODES).all()
    for name, weights in learner.weights.items():
        assert weights.tobytes() == LEARNER.weights[name].tobytes()
    assert (trained(seed=1)[1] != CODES).any()


@pytest.mark.parametrize("name", ["retrieval", "commitment", "codes", "reconstruction"])
def test_every_loss_counts(name):
    options = LearningOptions(width=32, epochs=1, batch=64)
    without = LearningOptions(width=32, epochs=1, batch=64, **{name: 0.0})
    weights, changed = (trained(each)[0].weights["inner"] for each in (options, without))
    assert not np.array_equal(weights, changed)


@given(st.integers(1, 40), st.integers(2, 5), st.integers(0, 100))
def test_groups_are_spread_over_the_codes(lines, codes, seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(lines, codes)).astype(np.float32)
    group = rng.integers(3, size=lines)
    chosen = balanced(scores, group)
    alone = balanced(scores[group == 0], group[group == 0]) if (group == 0).any() else []
    assert chosen[group == 0].tolist() == list(alone)  # groups do not touch each other
    assert ((chosen >= 0) & (chosen < codes)).all()


def test_even_a_single_cluster_is_spread():
    rng = np.random.default_rng(0)
    scores = (np.array([1.0, 0.0, 0.0, 0.0]) + 0.1 * rng.normal(size=(400, 4))).astype(np.float32)
    counts = np.bincount(balanced(scores, np.zeros(400, np.int64)), minlength=4)
    assert counts.min() > 60
    # The lines that lean most to a code get it.
    best = [scores[:, code] - scores.mean(axis=1) for code in range(4)]
    chosen = balanced(scores, np.zeros(400, np.int64))
    for one, other in itertools.permutations(range(4), 2):
        gap = best[one] - best[other]
        assert gap[chosen == one].mean() > gap[chosen == other].mean()


def test_the_kind_learns_from_pseudo_queries_and_goes_on():
    texts = [f"text {i}" for i in range(120)]
    several = [[f"query {i} {j}" for j in range(3)] for i in range(120)]

    def embed(these):
        if these is texts:
            return DOCUMENTS
        return QUERIES[[int(t.split()[1]) * 3 + int(t.split()[2]) for t in these]]

    documents = Documents([f"d{i}" for i in range(120)], texts, embed, None, lambda _: several)
    options = KINDS["learned"].Options(levels=2, codebook=SIZE, width=32, epochs=6, batch=64)
    built = KINDS["learned"].build(documents, options, 0)
    assert (built.table.matrix()[:, :2] - 2 - [0, SIZE] == CODES).all()
    purity = measure(built.table, lambda: DOCUMENTS, seed=0).purity
    assert purity.value > purity.shuffled + 0.4
    again = Documents(["new"], ["?"], lambda these: DOCUMENTS[:1])
    later = KINDS["learned"].extend(built, again, 0).table
    assert later.sequence(120)[:2] == tuple(LEARNER.encode(DOCUMENTS[:1])[0] + [2, 2 + SIZE])
    with pytest.raises(InputError, match="3 dimensions, and the network reads 8"):
        KINDS["learned"].extend(
            built, Documents(["x"], ["?"], lambda these: np.ones((1, 3), np.float32)), 0
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [({"width": 0}, "width is 0"), ({"lr": 0.0}, "lr is 0"), ({"codes": -1.0}, "codes is -1")],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        LearningOptions(**options)
