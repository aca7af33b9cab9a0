"""Labeled queries train the weights; documents without labels benefit, too."""

import numpy as np
import pytest

from dsi.lexical.labeled_queries import LabeledQueries


def corpus(rng, documents=120):
    """Each document is about the word that it has in capitals; decoys are as frequent."""
    topics = [f"topic{number:02d}" for number in range(documents)]
    texts = []
    for row in range(documents):
        decoy = topics[(row + 1) % documents]
        filler = " ".join(f"filler{rng.integers(20)}" for _ in range(6))
        texts.append(f"{topics[row].capitalize()} and {decoy} {decoy} {filler}.")
    return topics, texts


def labeled(topics, rows):
    return LabeledQueries([topics[row] for row in rows], np.array(rows, np.int64))


def hits(layer, queries: LabeledQueries) -> float:
    scores = layer.scores(queries.texts)
    return float((scores.argmax(1) == queries.rows).mean())


def test_what_labels_teach_reaches_documents_that_nobody_asked_for(build, rng):
    topics, texts = corpus(rng)
    titles = [""] * len(texts)
    asked, rest = labeled(topics, list(range(80))), labeled(topics, list(range(80, 120)))
    assert hits(build(titles, texts).layer(), rest) < 0.2
    trained = build(titles, texts, asked)
    assert hits(trained.layer(), rest) > 0.9
    assert trained.outcome["after"] > trained.outcome["before"]
    assert trained.outcome["steps"] > 0


def test_the_same_seed_gives_the_same_weights(build, rng):
    topics, texts = corpus(rng, 40)
    asked = labeled(topics, list(range(30)))
    one, two = (build([""] * 40, texts, asked, seed=3, steps=10).layer() for _ in range(2))
    assert np.array_equal(one.postings.weights, two.postings.weights)


def test_labels_that_teach_nothing_leave_the_start(build, rng):
    topics, texts = corpus(rng, 60)
    wrong = LabeledQueries(topics, rng.permutation(60))
    right = labeled(topics, list(range(60)))
    trained = build([""] * 60, texts, wrong, right, holdout=0.0, steps=20)
    plain = build([""] * 60, texts)
    if trained.outcome["steps"] == 0:
        assert np.array_equal(trained.layer().postings.weights, plain.layer().postings.weights)
    assert trained.outcome["after"] >= trained.outcome["before"]


@pytest.mark.parametrize("steps", [0, 1])
def test_steps_move_the_weights_and_none_does_not(build, rng, steps):
    topics, texts = corpus(rng, 30)
    asked = labeled(topics, list(range(20)))
    # Without a held-out group for selection, all steps are run.
    trained = build([""] * 30, texts, asked, holdout=0.0, steps=steps)
    moved = not np.array_equal(
        trained.layer().postings.weights, build([""] * 30, texts).layer().postings.weights
    )
    assert moved == bool(steps)


def test_one_query_of_one_document_trains(build):
    asked = LabeledQueries(["owl"], np.array([1]))
    layer = build(["", ""], ["cat sat", "owl sat"], asked, asked).layer()
    assert layer.scores(["owl"]).argmax() == 1


def mean_reciprocal_rank(layer, queries: LabeledQueries) -> float:
    """Among all documents; equal scores count as ahead."""
    values = []
    for text, row in zip(queries.texts, queries.rows, strict=True):
        scores = layer.scores([text])[0].tolist()
        values.append(1 / sum(score >= scores[row] for score in scores))
    return sum(values) / len(values)


@pytest.mark.parametrize("candidates", [2, 64])
def test_the_reported_ranks_are_among_all_documents(build, rng, candidates):
    """Documents that were no candidates may overtake the relevant one in training."""
    topics, texts = corpus(rng)
    texts = [f"{text} {' '.join(topics[row + 2 : row + 6])}" for row, text in enumerate(texts)]
    titles = [""] * len(texts)
    asked, dev = labeled(topics, list(range(80))), labeled(topics, list(range(80, 120)))
    options = {"holdout": 0.0, "steps": 40, "candidates": candidates}
    trained = build(titles, texts, asked, dev, **options)
    before = mean_reciprocal_rank(build(titles, texts).layer(), dev)
    after = mean_reciprocal_rank(trained.layer(), dev)
    assert trained.outcome["before"] == pytest.approx(before)
    assert trained.outcome["after"] == pytest.approx(after)
    assert after >= before
