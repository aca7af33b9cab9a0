"""Every term matches its formula, on random values and in a model, and every option affects it."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from data_prep.errors import InputError
from dsi.backbones.backbone import set_docid_alphabet
from dsi.data.batching import Batch
from dsi.objectives.base import IGNORED, OBJECTIVES, Forward, Targets
from dsi.objectives.contrastive import supervised_contrastive
from dsi.objectives.distillation import divergence
from dsi.objectives.loss_terms import make_objectives
from dsi.objectives.options import (
    CrossEntropyOptions,
    DistillationOptions,
    ObjectiveOptions,
    PrefixMarginOptions,
    RankOptions,
    RDropOptions,
    TeacherOptions,
)
from dsi.objectives.prefix_margin import prefix_lengths, prefix_margins
from dsi.objectives.r_drop import symmetric_divergence
from dsi.objectives.rank import list_likelihood, margin_loss
from dsi.teachers.scores import TeacherScores

NONE = -torch.inf


def test_r_drop_computed_by_hand():
    # p = (1/2, 1/2), q = (1/4, 3/4): (p - q) (log p - log q) = 1/4 log 2 + 1/4 log 3/2.
    loss = symmetric_divergence(
        torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[0.0, math.log(3)]]]), torch.tensor([[0]])
    )
    assert loss.item() == pytest.approx(0.5 * 0.25 * (math.log(2) + math.log(1.5)))


def test_r_drop_is_its_definition():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 3, 4, 6))
    codes = rng.integers(0, 6, (3, 4))
    codes[0, 3] = codes[1, 2] = codes[1, 3] = IGNORED
    loss = symmetric_divergence(torch.tensor(one), torch.tensor(other), torch.tensor(codes))
    assert loss.item() == pytest.approx(
        oracles.r_drop(one, other, codes.tolist(), IGNORED), rel=1e-5
    )
    assert symmetric_divergence(torch.tensor(one), torch.tensor(one), torch.tensor(codes)) == 0


def test_the_contrastive_loss_is_its_definition():
    rng = np.random.default_rng(1)
    states, codes = rng.normal(size=(6, 3, 4)), rng.integers(2, 4, (6, 3))
    codes[0, 2] = codes[4, 1] = codes[4, 2] = IGNORED
    loss = supervised_contrastive(torch.tensor(states), torch.tensor(codes), 0.3)
    wanted = oracles.contrastive(states.tolist(), codes.tolist(), 0.3, IGNORED)
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    alone = torch.arange(18).view(6, 3)  # no code repeats: nothing attracts
    assert supervised_contrastive(torch.tensor(states), alone, 0.3) == 0


def random_candidates(seed: int):
    """Scores of teacher and model for 4 queries and 5 documents, of which some are missing."""
    rng = np.random.default_rng(seed)
    teacher_scores = [[float(value) for value in line] for line in rng.normal(size=(4, 5))]
    teacher_scores[1][3] = teacher_scores[1][4] = teacher_scores[2][4] = None
    teacher_scores[3][1:] = [None] * 4
    logs = rng.normal(size=(4, 5)) - 3
    scores = torch.tensor(
        [[NONE if value is None else value for value in row] for row in teacher_scores]
    )
    return teacher_scores, scores, logs


@pytest.mark.parametrize("seed", range(3))
def test_distillation_and_rank_losses_are_their_definitions(seed):
    teacher_scores, scores, logs = random_candidates(seed)
    model = torch.tensor(logs, dtype=torch.float32)
    lines = logs.tolist()
    there = scores > NONE
    assert divergence(scores, model).item() == pytest.approx(
        oracles.distillation(teacher_scores, lines, "all"), rel=1e-5
    )
    among = model.masked_fill(~there, NONE).log_softmax(-1)
    assert divergence(scores, among).item() == pytest.approx(
        oracles.distillation(teacher_scores, lines, "candidates"), rel=1e-5
    )
    for margin in (0.0, 1.0, 3.0):
        assert margin_loss(model, there, margin).item() == pytest.approx(
            oracles.rank_margin(teacher_scores, lines, margin), rel=1e-5
        )
    assert list_likelihood(model, scores).item() == pytest.approx(
        oracles.listmle(teacher_scores, lines), rel=1e-5
    )


@pytest.mark.parametrize("seed", range(3))
def test_prefix_margins_are_their_definition(seed):
    teacher_scores, scores, _ = random_candidates(seed)
    rng = np.random.default_rng(seed)
    codes = rng.integers(2, 5, (4, 5, 8))
    codes[0, 1, :2] = codes[0, 0, :2]  # a shared prefix of two codes has no margin to learn
    logits = rng.normal(size=codes.shape)
    codes[0, 2, 6:] = IGNORED
    logits[0, 2, 6:] = 0.0
    prefixes = prefix_lengths(8)
    assert prefixes == [(1, 0.5), (2, 0.75), (4, 0.875), (8, 1.0)]
    for stage in range(1, 5):
        loss = prefix_margins(torch.tensor(logits), torch.tensor(codes), scores, prefixes[:stage])
        assert loss.item() == pytest.approx(
            oracles.prefix_margin(
                teacher_scores, logits.tolist(), codes.tolist(), prefixes[:stage]
            ),
            rel=1e-5,
        )


def test_prefix_lengths_are_ripors_and_fit_short_identifiers():
    assert prefix_lengths(32) == [(4, 0.5), (8, 0.75), (16, 0.875), (32, 1.0)]
    assert prefix_lengths(3) == [(1, 0.75), (2, 0.875), (3, 1.0)]
    assert prefix_lengths(1) == [(1, 1.0)]


SEQUENCES = np.array(
    [[2, 3, 4, 1], [2, 5, 1, 0], [3, 1, 0, 0], [4, 4, 4, 1], [5, 3, 1, 0]], np.int32
)
ATOMIC = np.array([[2], [3], [4], [5], [6]], np.int32)
# Five queries after one document of the indexing task; the last two rows lack documents.
TEACHER_SCORES = TeacherScores(
    np.array([[0, 1, 2], [1, 0, 3], [2, 4, -1], [3, -1, -1], [4, 0, 1]], np.int32),
    np.array(
        [[3.0, 2.5, 1.0], [2.0, 4.0, 0.5], [1.0, 3.0, NONE], [2.0, NONE, NONE], [5.0, 1.0, 2.0]],
        np.float32,
    ),
    temperature=2.0,
    first=1,
)


def forward_of(matrix, *, dropout=0.0, numbers=(0, 1, 2, 4, 5), step=0, steps=1):
    """A micro-batch: example number 0 is of the indexing task, number n asks query n - 1."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=9, d_model=16, d_kv=4, num_heads=2, d_ff=16, num_layers=1, dropout_rate=dropout
    )
    model = set_docid_alphabet(T5ForConditionalGeneration(config), 9, 7)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(3)
    places = np.array(numbers)
    ids = np.random.default_rng(0).integers(2, 9, (len(places), 4))
    rows = np.array([0, *TEACHER_SCORES.rows[:, 0]])[places]
    labeled = np.zeros(len(rows), bool)
    batch = Batch(ids, np.ones_like(ids), rows.astype(np.int64), labeled, places)
    return Forward(model.train(), batch, Targets.of(matrix, 7, None), step=step, steps=steps)


def scored_by_hand(forward, matrix):
    """Teacher's scores, and code logits and log-probabilities from one pass per document."""
    teacher_scores, codes, raw, logs = [], [], [], []
    for place, number in enumerate(forward.batch.numbers):
        if number < TEACHER_SCORES.first:
            continue
        query = number - TEACHER_SCORES.first
        teacher_scores.append(
            [None if s == NONE else float(s) / 2 for s in TEACHER_SCORES.scores[query]]
        )
        codes.append([]), raw.append([]), logs.append([])
        for row in TEACHER_SCORES.rows[query]:
            line = [int(code) for code in matrix[row] if code] if row >= 0 else []
            values, chances = [], []
            if line:
                logits = forward.model(
                    input_ids=forward.input_ids[place : place + 1],
                    attention_mask=forward.attention_mask[place : place + 1],
                    decoder_input_ids=torch.tensor([[0, *line[:-1]]]),
                ).logits[0]
                values = [logits[at, code].item() for at, code in enumerate(line)]
                chances = [logits.log_softmax(-1)[at, code].item() for at, code in enumerate(line)]
            codes[-1].append(line)
            raw[-1].append(values)
            logs[-1].append(sum(chances))
    return teacher_scores, codes, raw, logs


@pytest.mark.parametrize("matrix", [ATOMIC, SEQUENCES], ids=["atomic", "sequences"])
def test_teacher_terms_score_the_teachers_documents_with_the_model(matrix):
    forward = forward_of(matrix)
    teacher_scores, codes, raw, logs = scored_by_hand(forward, matrix)
    longest = matrix.shape[1]
    expected = {
        ("distillation", "all"): oracles.distillation(teacher_scores, logs, "all"),
        ("distillation", "candidates"): oracles.distillation(teacher_scores, logs, "candidates"),
        ("rank", "margin"): oracles.rank_margin(teacher_scores, logs, 1.0),
        ("rank", "listmle"): oracles.listmle(teacher_scores, logs),
        ("prefix_margin", ""): oracles.prefix_margin(
            teacher_scores, raw, codes, prefix_lengths(longest)
        ),
    }
    knobs = {"distillation": "over", "rank": "form"}
    for (name, value), wanted in expected.items():
        given = {knobs[name]: value} if value else {}
        term = OBJECTIVES[name](weight=1.0, teacher_scores=TEACHER_SCORES, **given)
        forward.step, forward.steps = 99, 100
        assert term.of_examples(forward).item() == pytest.approx(wanted, rel=1e-4), (name, value)
    auto = (
        OBJECTIVES["distillation"](weight=1.0, teacher_scores=TEACHER_SCORES)
        .of_examples(forward)
        .item()
    )
    over = "all" if longest == 1 else "candidates"
    assert auto == pytest.approx(expected["distillation", over], rel=1e-4)


def test_terms_share_one_pass_over_the_candidates(monkeypatch):
    forward = forward_of(SEQUENCES)
    passes = []
    real = Forward.run
    monkeypatch.setattr(Forward, "run", lambda *a, **b: (passes.append(1), real(*a, **b))[1])
    for name in ("distillation", "rank", "prefix_margin"):
        OBJECTIVES[name](weight=1.0, teacher_scores=TEACHER_SCORES).of_examples(forward)
    assert len(passes) == 2, "the examples' own, and the candidates'"


@pytest.mark.parametrize("matrix", [ATOMIC, SEQUENCES], ids=["atomic", "sequences"])
def test_a_part_that_asks_no_teacher_costs_nothing_and_has_a_gradient(matrix):
    forward = forward_of(matrix, numbers=(0, 0))
    for name in ("distillation", "rank", "prefix_margin"):
        loss = OBJECTIVES[name](weight=1.0, teacher_scores=TEACHER_SCORES).of_examples(forward)
        assert loss.item() == 0.0
        assert loss.requires_grad


def test_the_curriculum_adds_longer_prefixes_and_keeps_the_shorter_ones():
    losses = []
    for step in range(8):
        forward = forward_of(SEQUENCES, step=step, steps=8)
        term = OBJECTIVES["prefix_margin"](weight=1.0, teacher_scores=TEACHER_SCORES)
        losses.append(term.of_examples(forward).item())
    # Prefixes of 1, 2 and 4 codes: three stages of 8 / 3 steps.
    assert losses == [losses[0]] * 3 + [losses[3]] * 3 + [losses[6]] * 2
    assert losses[0] < losses[3] < losses[6]


def test_r_drop_makes_a_pass_with_other_dropout():
    still = forward_of(SEQUENCES, dropout=0.0)
    assert OBJECTIVES["r_drop"](weight=1.0).of_examples(still).item() == pytest.approx(0, abs=1e-6)
    forward = forward_of(SEQUENCES, dropout=0.3)
    torch.manual_seed(5)
    first, second = forward.run().logits, forward.run().logits
    torch.manual_seed(5)
    loss = OBJECTIVES["r_drop"](weight=1.0).of_examples(forward)
    wanted = oracles.r_drop(first.tolist(), second.tolist(), forward.codes.tolist(), IGNORED)
    assert loss.item() == pytest.approx(wanted, rel=1e-4)
    assert wanted > 0.01


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_term_can_be_learned(name):
    """Some steps down its gradient make each term smaller."""
    alone = ("cross_entropy", "r_drop", "contrastive")
    knobs = {} if name in alone else {"teacher_scores": TEACHER_SCORES}
    term = OBJECTIVES[name](weight=1.0, **knobs)
    forward = forward_of(SEQUENCES, dropout=0.1 if name == "r_drop" else 0.0)
    optimizer = torch.optim.Adam(forward.model.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        torch.manual_seed(1)
        again = Forward(
            forward.model, forward.batch, forward.targets, hidden_states=term.hidden_states
        )
        loss = term.of_examples(again)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


def test_options_become_terms_with_their_weights_and_knobs():
    terms = make_objectives(
        ObjectiveOptions(
            cross_entropy=CrossEntropyOptions(0.5),
            r_drop=RDropOptions(0.15),
            prefix_margin=PrefixMarginOptions(0.3),
            rank=RankOptions(0.2, "margin", 2.0),
            distillation=DistillationOptions(0.7, "all"),
        ),
        label_smoothing=0.1,
        teacher_scores=TEACHER_SCORES,
    )
    assert {term.name: term.weight for term in terms} == {
        "cross_entropy": 0.5,
        "r_drop": 0.15,
        "prefix_margin": 0.3,
        "rank": 0.2,
        "distillation": 0.7,
    }
    by_name = {term.name: vars(term) for term in terms}
    assert by_name["cross_entropy"]["label_smoothing"] == 0.1
    assert (by_name["rank"]["form"], by_name["rank"]["margin"]) == ("margin", 2.0)
    listwise = ObjectiveOptions(rank=RankOptions(0.2, "listmle"))
    _, rank = make_objectives(listwise, teacher_scores=TEACHER_SCORES)
    assert rank.form == "listmle"
    assert by_name["distillation"]["over"] == "all"
    assert set(ObjectiveOptions().weights) == set(OBJECTIVES), "a group of options for each term"
    (alone,) = make_objectives(ObjectiveOptions())
    assert (alone.name, alone.weight) == ("cross_entropy", 1.0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (lambda: {"rank": RankOptions(-1.0)}, r"--objectives\.rank\.weight -1\.0 is negative"),
        (
            lambda: {"rank": RankOptions(1.0, "pairs")},
            r"--objectives\.rank\.form 'pairs' is unknown",
        ),
        (
            lambda: {"rank": RankOptions(1.0, margin=math.nan)},
            r"rank\.margin nan is not a finite number",
        ),
        (lambda: {"distillation": DistillationOptions(1.0, "some")}, r"distillation\.over 'some'"),
        (
            lambda: {"rank": RankOptions(form="listmle")},
            r"rank\.form listmle has no effect while --objectives\.rank\.weight is 0\.0",
        ),
        (
            lambda: {"rank": RankOptions(1.0, "listmle", 2.0)},
            r"rank\.margin 2\.0 has no effect while --objectives\.rank\.form is listmle",
        ),
        (
            lambda: {"rank": RankOptions(1.0), "teacher": TeacherOptions(temperature=2.0)},
            r"temperature 2\.0 has no effect .* one of prefix_margin, distillation a weight",
        ),
        (lambda: {"distillation": DistillationOptions(over="all")}, r"over all has no effect"),
        (lambda: {"cross_entropy": CrossEntropyOptions(0.0)}, r"every term .* has weight 0"),
        (
            lambda: {"teacher": TeacherOptions(candidates=3)},
            r"candidates 3 has no effect without a loss term",
        ),
        (lambda: {"teacher": TeacherOptions(kind="oracle")}, r"teacher\.kind 'oracle' is unknown"),
        (lambda: {"teacher": TeacherOptions(kind="embeddings")}, r"embeddings needs a model"),
        (
            lambda: {"teacher": TeacherOptions(model="x")},
            r"model x has no effect while --objectives\.teacher\.kind is bm25",
        ),
        (lambda: {"teacher": TeacherOptions(candidates=0)}, r"teacher\.candidates 0"),
        (lambda: {"teacher": TeacherOptions(temperature=0.0)}, r"teacher\.temperature 0\.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(changes, told):
    with pytest.raises(InputError, match=told):
        ObjectiveOptions(**changes())
