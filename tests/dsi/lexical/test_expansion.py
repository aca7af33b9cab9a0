"""Training queries are appended to their documents where held-out queries gain by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lexical_oracles import NONE, documents_of

from data_prep.errors import InputError
from dsi.lexical.expansion import SHARES, _choice, _Split
from dsi.lexical.labeled_queries import LabeledQueries
from dsi.lexical.layer_builder import LexicalIndex, open_layer
from dsi.lexical.options import LexicalOptions

DOCUMENTS = 40


def corpus(rng, documents=DOCUMENTS):
    """People ask for each document by a name of their own, which its text does not have."""
    texts = [
        f"entry {' '.join(f'word{rng.integers(30)}' for _ in range(5))}" for _ in range(documents)
    ]
    asked = [[f"nick{row} please{rng.integers(9)}" for _ in range(3)] for row in range(documents)]
    return texts, asked


def queries(asked, rows, numbers) -> LabeledQueries:
    pairs = [(asked[row][number], row) for row in rows for number in numbers]
    return LabeledQueries(
        [text for text, _ in pairs], np.array([row for _, row in pairs], np.int64)
    )


def built(texts, appended, dev=NONE, **options) -> LexicalIndex:
    return LexicalIndex.build(
        documents_of(texts),
        language="none",
        options=LexicalOptions(**options),
        labeled=NONE,
        dev=dev,
        seed=0,
        appended=appended,
    )


def hits(index, asked: LabeledQueries) -> float:
    return float((index.layer().scores(asked.texts).argmax(1) == asked.rows).mean())


@pytest.mark.parametrize("with_dev", [True, False])
def test_words_that_only_queries_have_find_their_document(rng, with_dev):
    texts, asked = corpus(rng)
    everyone = range(DOCUMENTS)
    train = queries(asked, everyone, [0, 1])
    test = queries(asked, everyone, [2])
    index = built(texts, train, dev=queries(asked, everyone, [1]) if with_dev else NONE)
    assert index.outcome["expansion"] > 0
    assert hits(index, test) == 1
    assert hits(built(texts, train, expansion=False), test) < 0.2


def test_queries_that_cost_documents_without_queries_are_not_appended(rng):
    """All ask with the same words: with these, a document with queries outranks any other."""
    texts = [f"alpha{row} beta{row} gamma delta" for row in range(DOCUMENTS)]
    asked = [[f"gamma delta alpha{row}"] * 3 for row in range(DOCUMENTS)]
    train = queries(asked, range(20), [0, 1])
    index = built(texts, train, dev=queries(asked, range(20), [2]))
    assert index.expansion is None
    plain = built(texts, train, expansion=False)
    assert np.array_equal(index.layer().postings.weights, plain.layer().postings.weights)
    assert index.vocabulary.words == plain.vocabulary.words


def expanded(rng, share) -> tuple[list[str], list[list[str]], LexicalIndex]:
    texts, asked = corpus(rng, 20)
    index = built(texts, queries(asked, range(20), [0, 1]))
    assert index.expansion is not None
    return texts, asked, replace(index, expansion=replace(index.expansion, share=share))


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_scores_are_a_mixture_of_two_corpora(rng, share):
    texts, asked, index = expanded(rng, share)
    both = ["\n\n".join([text, *lines[:2]]) for text, lines in zip(texts, asked, strict=True)]
    question = ["word3 nick4 entry please2", asked[7][2], "nothing known"]
    wanted = (1 - share) * built(texts, NONE).layer().scores(question)
    wanted += share * built(both, NONE).layer().scores(question)
    assert index.layer().scores(question) == pytest.approx(wanted, abs=1e-5)


def test_deleted_and_changed_documents_lose_their_queries(rng):
    _, _, index = expanded(rng, 1.0)
    live = np.ones(21, bool)
    live[3] = False
    after = index.changed(
        documents_of(["other words", "brand new"]), np.array([5, 20], np.int64), live=live
    )
    found = after.layer().scores(["nick3", "nick5", "nick6", "brand"])
    assert (found[:, 3] == 0).all()
    assert (found[:2] == 0).all()
    assert found[2].argmax() == 6
    assert found[3].argmax() == 20
    nothing_left = after.changed([], np.zeros(0, np.int64), live=np.arange(21) >= 20)
    assert nothing_left.expansion is None


def test_documents_keep_their_queries_in_other_rows(rng):
    _, asked, index = expanded(rng, 0.5)
    order = rng.permutation(25)[:20]
    moved = index.placed(order, 25)
    question = [lines[2] for lines in asked]
    assert np.array_equal(moved.layer().scores(question)[:, order], index.layer().scores(question))


def test_what_is_saved_comes_back(rng, tmp_path):
    _, asked, index = expanded(rng, 0.5)
    index.save(tmp_path / "lexical")
    question = [lines[2] for lines in asked]
    again = LexicalIndex.open(tmp_path / "lexical")
    wanted = index.layer().scores(question)
    assert np.array_equal(again.layer().scores(question), wanted)
    assert np.array_equal(open_layer(tmp_path / "lexical").scores(question), wanted)


@pytest.mark.parametrize(("name", "value"), [("share", 2.0), ("share", np.nan), ("rows", 99)])
def test_a_damaged_expansion_is_refused_in_one_line(rng, tmp_path, name, value):
    expanded(rng, 0.5)[2].save(tmp_path / "lexical")
    file = tmp_path / "lexical" / "source" / "expansion" / f"{name}.npy"
    array = np.load(file)
    array[-1] = value
    np.save(file, array)
    with pytest.raises(InputError) as refusal:
        LexicalIndex.open(tmp_path / "lexical")
    assert "\n" not in str(refusal.value)


def ranks(*means: float, queries=400) -> np.ndarray:
    """Reciprocal ranks of as many candidates as there are, with some noise in all."""
    noise = np.random.default_rng(0).normal(size=(len(SHARES), queries)) * 0.1
    noise -= noise.mean(1, keepdims=True)
    return np.array(means)[:, None] + noise


def test_the_smallest_share_within_one_standard_error_of_the_best_wins():
    assert SHARES[_choice([ranks(0.1, 0.2, 0.3, 0.501, 0.502, 0.3)], [1.0])] == 0.5
    assert SHARES[_choice([ranks(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)], [1.0])] == 1.0


def test_without_a_significant_gain_nothing_is_appended():
    assert SHARES[_choice([ranks(0.5, 0.505, 0.506, 0.507, 0.508, 0.509)], [1.0])] == 0


def test_a_loss_of_documents_without_queries_counts_by_its_weight():
    gains, losses = ranks(0, 0.1, 0.2, 0.3, 0.4, 0.5), ranks(0, 0, 0, 0, -0.2, -0.4)
    assert SHARES[_choice([gains, losses], [1 / 3, 2 / 3])] == 0.5


@pytest.mark.parametrize(
    ("labeled", "importance"), [(40, (1.0,)), (20, (1 / 3, 2 / 3)), (12, (0.3, 0.7))]
)
def test_documents_without_queries_count_by_their_number_and_at_least_twice(
    rng, labeled, importance
):
    _, asked = corpus(rng)
    train, dev = (queries(asked, range(labeled), numbers) for numbers in ([0, 1], [2]))
    split = _Split.of(train, dev, DOCUMENTS, 0.15, rng)
    assert split is not None
    assert split.importance == pytest.approx(importance)
    appended = set(split.appended.rows.tolist())
    for group, has_queries in zip(split.groups, (True, False), strict=False):
        assert all((row in appended) == has_queries for row in group.rows.tolist())


def test_one_query_of_each_document_leaves_nothing_to_choose_by(rng):
    _, asked = corpus(rng)
    assert _Split.of(queries(asked, range(40), [0]), NONE, DOCUMENTS, 0.15, rng) is None
