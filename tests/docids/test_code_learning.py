"""Learned codes on toy data: pure, balanced, deterministic; each loss has an effect."""

import contextlib
import dataclasses
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_prep.dataset import Document, InMemorySource
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from data_prep.files import read_json
from docids.assignment import Assignment
from docids.code_learning import (
    Learner,
    LearningOptions,
    Pairs,
    balanced,
    residual_autoencoder,
)
from docids.code_learning.networks import VectorNetwork
from docids.code_learning.trainer import CodebookTrainer
from docids.kind_options import KindOptions
from docids.kinds import KINDS, Documents
from docids.kinds.learned import LearnedOptions
from docids.kinds.rqvae import RqVaeOptions
from docids.quality import measure
from dsi.commands.docids import docids

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
PAIRS = Pairs(DOCUMENTS, QUERIES, OWNERS)


def trained(options=SMALL, seed=0, folder=None, pairs=PAIRS):
    learner, learned = Learner.train(
        pairs, levels=2, size=SIZE, options=options, seed=seed, folder=folder
    )
    return learner, learned.codes


def same(one, other):
    """Whether two networks are the same, bit by bit."""
    return all(one.weights[n].tobytes() == other.weights[n].tobytes() for n in one.weights)


LEARNER, CODES = trained()


def test_the_first_code_says_what_a_document_is_about():
    near = (DOCUMENTS @ DOCUMENTS.T).argsort(axis=1)[:, -6:-1]
    same = (CODES[near, 0] == CODES[:, :1]).mean()
    assert same > 0.8  # chance is about a quarter


def test_codes_are_balanced_at_each_position():
    for level in range(2):
        shares = np.bincount(CODES[:, level], minlength=SIZE) / len(CODES)
        assert np.exp(-(shares * np.log(shares)).sum()) > 0.9 * SIZE
    # Documents with the same first code are spread over all second codes.
    pairs = np.bincount(CODES @ [SIZE, 1], minlength=SIZE**2)
    assert pairs.min() > 0


def test_a_query_is_given_the_codes_of_its_document():
    found = LEARNER.encode(QUERIES)
    assert (found[:, 0] == CODES[OWNERS, 0]).mean() > 0.8
    assert (found == CODES[OWNERS]).all(axis=1).mean() > 0.4  # chance is a sixteenth


def test_the_same_seed_gives_the_same_codes_and_another_does_not():
    learner, codes = trained()
    assert (codes == CODES).all()
    assert same(learner, LEARNER)
    assert (trained(seed=1)[1] != CODES).any()


@pytest.mark.parametrize("name", ["retrieval", "commitment", "codes", "reconstruction"])
def test_every_loss_counts(name):
    options = LearningOptions(width=32, epochs=1, batch=64, least_use=0)
    without = dataclasses.replace(options, **{name: 0.0})
    weights, changed = (trained(each)[0].weights["inner"] for each in (options, without))
    assert not np.array_equal(weights, changed)


class StopError(Exception):
    """Ends the learning as a kill would."""


@pytest.mark.parametrize("at", [1, 4, 9, 14, 17])
def test_a_training_that_was_interrupted_ends_with_the_same_bits(at, tmp_path, monkeypatch):
    options = dataclasses.replace(SMALL, epochs=3, least_use=0)
    alone = trained(options)
    passes, done = CodebookTrainer._pass, []

    def dying(trainer, *words):
        done.append(words)
        if len(done) == at:
            raise StopError
        passes(trainer, *words)

    monkeypatch.setattr(CodebookTrainer, "_pass", dying)
    with pytest.raises(StopError) if at <= 11 else contextlib.nullcontext():
        trained(options, folder=tmp_path)
    first = len(done)
    learner, codes = trained(options, folder=tmp_path)
    assert (codes == alone[1]).all()
    assert same(learner, alone[0])
    # Completed passes are not repeated.
    assert len(done) - first == max(0, 11 - at + 1)


def test_the_state_of_another_training_is_not_resumed(tmp_path):
    options = dataclasses.replace(SMALL, epochs=1, least_use=0)
    trained(options, seed=3, folder=tmp_path)
    learner, codes = trained(options, folder=tmp_path)
    alone = trained(options)
    assert (codes == alone[1]).all()
    assert same(learner, alone[0])


def test_a_killed_process_is_taken_up(tmp_path):
    """By SIGKILL in the middle of the command that a user runs."""
    write_dataset(
        tmp_path / "set",
        InMemorySource([Document(f"d{n}", "", f"word{n % 7} of topic{n % 4}") for n in range(40)]),
    )
    words = ["docids", str(tmp_path / "set"), "--kind", "learned", "--out", str(tmp_path / "ids")]
    words += ["--learned.levels", "2", "--learned.codebook", "4", "--learned.width", "16"]
    died = subprocess.run(
        [sys.executable, "-c", KILLED, *words, "--learned.least_use", "0"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert died.returncode == -9
    state = tmp_path / ".ids.partial" / "trainer"
    assert read_json(state / "trainer.json")["done"] == 5
    wanted = KindOptions(learned=LearnedOptions(levels=2, codebook=4, width=16, least_use=0))
    for name in ("ids", "alone"):
        docids(tmp_path / "set", out=tmp_path / name, kind="learned", kinds=wanted)
    assert not state.exists()
    one, other = (Assignment.open(tmp_path / name).table.matrix() for name in ("ids", "alone"))
    assert np.array_equal(one, other)


KILLED = """
import os, signal, sys
from docids.code_learning.trainer import CodebookTrainer
from docids.code_learning.networks import VectorNetwork
from dsi.cli import main
passes, done = CodebookTrainer._pass, []
def dying(trainer, *words):
    done.append(words)
    if len(done) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    passes(trainer, *words)
CodebookTrainer._pass = dying
sys.exit(main(sys.argv[1:]))
"""


def test_a_network_that_tells_documents_apart_by_balance_alone_is_an_error():
    """One code is the nearest to all documents, over which balance spreads them all the same."""
    vectors = (0.2 * DOCUMENTS + 1).astype(np.float32)
    pairs = Pairs(vectors, np.empty((0, 8), np.float32), np.empty(0, np.int64))
    trainer = CodebookTrainer(VectorNetwork(pairs, 2, SIZE, 32, 0), 2, SIZE, SMALL, 0)
    states = trainer._states_of_documents(0)
    noise = np.random.default_rng(0).normal(size=(SIZE, 32)).astype(np.float32)
    book = states.mean(axis=0) + 0.3 * noise * (np.arange(SIZE) > 0)[:, None]
    with torch.no_grad():
        trainer.codebooks[0] = torch.from_numpy(book)
    with pytest.raises(InputError, match=r"level 1 has collapsed: \d of 4 codes are likeliest"):
        trainer._freeze_position(0)
    assert len(set(trainer.codes[:, 0])) == SIZE
    assert trainer.moved.sum() > 60


def test_codes_that_balance_cannot_spread_are_an_error():
    vectors = np.tile(DOCUMENTS[:1], (120, 1))  # equal ones get equal codes
    vectors[:6] = DOCUMENTS[:6]
    pairs = Pairs(vectors, np.empty((0, 8), np.float32), np.empty(0, np.int64))
    with pytest.raises(InputError, match=r"has collapsed: \d of 4 codes are assigned"):
        trained(pairs=pairs)
    trained(dataclasses.replace(SMALL, least_use=0.0), pairs=pairs)


def test_a_loss_that_is_no_number_is_an_error():
    with pytest.raises(InputError, match=r"--learned.lr 1e\+30: the loss of learned codes"):
        trained(dataclasses.replace(SMALL, lr=1e30))


@given(st.integers(1, 40), st.integers(2, 5), st.integers(0, 100))
def test_groups_are_spread_over_the_codes(lines, codes, seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(lines, codes)).astype(np.float32)
    group = rng.integers(3, size=lines)
    chosen = balanced(scores, group)
    alone = balanced(scores[group == 0], group[group == 0]) if (group == 0).any() else []
    assert chosen[group == 0].tolist() == list(alone)  # groups do not touch each other
    assert ((chosen >= 0) & (chosen < codes)).all()


def test_a_line_alone_takes_its_nearest_code_and_few_lines_take_different_ones():
    scores = np.random.default_rng(0).normal(size=(9, 20)).astype(np.float32)
    assert balanced(scores, np.arange(9)).tolist() == scores.argmax(axis=1).tolist()
    together = balanced(scores[:1].repeat(9, axis=0) + 1e-3 * scores, np.zeros(9, np.int64))
    assert len(set(together.tolist())) > 5


def test_even_a_single_cluster_is_spread():
    rng = np.random.default_rng(0)
    scores = (np.array([1.0, 0.0, 0.0, 0.0]) + 0.1 * rng.normal(size=(400, 4))).astype(np.float32)
    counts = np.bincount(balanced(scores, np.zeros(400, np.int64)), minlength=4)
    assert counts.min() > 60
    # The rows with the strongest preference for a code get it.
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
    with pytest.raises(InputError, match="3 dimensions, but the network reads 8"):
        KINDS["learned"].extend(
            built, Documents(["x"], ["?"], lambda these: np.ones((1, 3), np.float32)), 0
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "--learned.width 0 is less than 1"),
        ({"lr": 0.0}, "--learned.lr 0.0 is not above 0"),
        ({"codes": -1.0}, "--learned.codes -1.0 is negative"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        LearningOptions(**options)


# The residual-quantized autoencoder.

AUTOENCODER = RqVaeOptions(width=16, latent=4, steps=60, batch=32)


def grouped_vectors(count=160, groups=8, seed=0):
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(5).normal(size=(groups, 12))
    vectors = centers[np.arange(count) % groups] + 0.05 * rng.normal(size=(count, 12))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def encoded_by_hand(arrays, vector):
    """The codes of one vector, number by number."""
    states = [float(value) * float(arrays["scale"][0]) for value in vector]
    for place in range(3):
        weight, bias = arrays[f"weight{place}"], arrays[f"bias{place}"]
        states = [
            sum(float(w) * s for w, s in zip(row, states, strict=True)) + float(b)
            for row, b in zip(weight, bias, strict=True)
        ]
        if place < 2:
            states = [max(state, 0.0) for state in states]
    codes = []
    for book in arrays["codebook"]:
        distances = [
            sum((s - float(w)) ** 2 for s, w in zip(states, word, strict=True)) for word in book
        ]
        codes.append(distances.index(min(distances)))
        states = [s - float(w) for s, w in zip(states, book[codes[-1]], strict=True)]
    return codes


def test_rqvae_codes_are_those_of_the_formula():
    vectors = grouped_vectors()
    arrays = residual_autoencoder.train(vectors, 2, 4, AUTOENCODER, seed=0)
    by_hand = [encoded_by_hand(arrays, vector) for vector in vectors[:20]]
    assert residual_autoencoder.encode(arrays, vectors[:20]).tolist() == by_hand


def test_rqvae_gradients_are_straight_through_and_those_of_the_loss():
    latent = torch.tensor([[1.0, 0.0], [0.0, 3.0]], requires_grad=True)
    books = torch.tensor([[[2.0, 0.0], [0.0, 2.0]], [[0.0, 0.5], [-1.0, 0.0]]], requires_grad=True)
    total, codes, loss = residual_autoencoder._quantize(latent, books, 0.25)
    assert codes.tolist() == [[0, 1], [1, 0]]
    assert total.tolist() == [[1.0, 0.0], [0.0, 2.5]]
    # Residuals of the first level: (-1, 0) and (0, 1); of the second: (0, 0) and (0, 0.5).
    assert loss.item() == pytest.approx(1.25 * (1 + 1) / 2 + 1.25 * (0 + 0.25) / 2)
    loss.backward()
    # Codewords move to their residuals with weight 1, latents to the codewords with 0.25.
    assert books.grad[0].tolist() == [[1.0, 0.0], [0.0, -1.0]]
    assert books.grad[1].tolist() == [[0.0, -0.5], [0.0, 0.0]]
    assert latent.grad.tolist() == [[-0.25, 0.0], [0.0, 0.25 + 0.125]]


def test_rqvae_learns_to_reconstruct():
    vectors = grouped_vectors()
    kind = KINDS["rqvae"]
    options = RqVaeOptions(width=16, latent=4, steps=200, batch=64, levels=2, codebook=8)
    documents = Documents([f"d{row}" for row in range(160)], [""] * 160, lambda texts: vectors)
    built = kind.build(documents, options, 0)
    purity = measure(built.table, lambda: vectors, seed=0).purity
    assert purity.value > purity.shuffled + 0.4
    # Documents of one group have one first code; new documents are encoded like old ones.
    more = Documents([f"e{row}" for row in range(160)], [""] * 160, lambda texts: vectors)
    matrix = kind.extend(built, more, 0).table.matrix()
    assert (matrix[:160, :2] == matrix[160:, :2]).all()
    assert (matrix[:160, 2] < matrix[160:, 2]).all()


def test_unused_codes_of_rqvae_restart_at_residuals_of_documents():
    books = torch.full((2, 3, 2), 9.0)
    books[0, 1] = torch.tensor([1.0, 1.0])
    books[1, 2] = torch.tensor([0.5, 0.0])
    latent = torch.tensor([[1.0, 2.0], [3.0, 1.0]])
    used = torch.tensor([[False, True, False], [False, False, True]])
    codes = torch.tensor([[1, 2], [1, 2]])
    residual_autoencoder._restart(books, used, latent, codes, np.random.default_rng(0))
    assert books[0, 1].tolist() == [1.0, 1.0]
    assert books[1, 2].tolist() == [0.5, 0.0]
    assert all(books[0, dead].tolist() in [[1.0, 2.0], [3.0, 1.0]] for dead in (0, 2))
    assert all(books[1, dead].tolist() in [[0.0, 1.0], [2.0, 0.0]] for dead in (0, 1))


def test_rqvae_refuses_what_does_not_fit():
    arrays = residual_autoencoder.train(
        grouped_vectors(), 2, 4, RqVaeOptions(width=4, steps=1), seed=0
    )
    with pytest.raises(InputError, match="2 dimensions, but the encoder reads 12"):
        residual_autoencoder.encode(arrays, np.ones((1, 2), np.float32))
    with pytest.raises(InputError, match=r"have no encoder \('bias1' is missing\)"):
        residual_autoencoder.encode(
            {k: v for k, v in arrays.items() if k != "bias1"}, grouped_vectors()
        )
    with pytest.raises(InputError, match=r"the loss is (nan|inf)"):
        residual_autoencoder.train(grouped_vectors(), 2, 4, RqVaeOptions(width=4, lr=1e30), seed=0)
    for options, message in (
        ({"levels": 0}, "--rqvae.levels 0 is less than 1"),
        ({"codebook": 1}, "--rqvae.codebook 1 is less than 2"),
        ({"commitment": -1}, "--rqvae.commitment -1 is negative"),
        ({"collisions": "both"}, "Choose from: extend, share"),
        ({"least_use": 2}, "--rqvae.least_use 2 is not at least 0 and at most 1"),
    ):
        with pytest.raises(InputError, match=message):
            RqVaeOptions(**options)
