"""Batches: the examples of each step, against an oracle in plain Python."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from docids.table import END, DocidTable
from dsi.data.batching import WINDOW, Batches
from dsi.data.examples import TASKS, Examples, labeled_rows, per_identifier, task_queries
from dsi.data.options import MixOptions
from dsi.indexing.assembly import _dev_queries
from dsi.indexing.options import TrainingOptions
from dsi.indexing.preparation import _judged, prepare
from dsi.indexing.start import resolve_start
from dsi.lexical.options import LexicalOptions
from dsi.rows.corpus import code_vectors
from dsi.training.options import LoopOptions
from dsi.updating.data.gathering import ReplayBatches


def examples(count: int, seed: int = 0) -> Examples:
    """Examples of 1 to 9 tokens; the first token of example n is n + 1, its row is 2 n."""
    lengths = np.random.default_rng(seed).integers(1, 10, count)
    lines = [[number + 1] + [7] * (length - 1) for number, length in enumerate(lengths)]
    return Examples.pack(lines, [2 * number for number in range(count)])


@st.composite
def mixes(draw, budget=False):
    tasks = draw(st.sets(st.sampled_from(TASKS), min_size=1))
    made = {
        task: examples(draw(st.integers(1, 40)), place) for place, task in enumerate(sorted(tasks))
    }
    shares = {task: draw(st.integers(0, 10)) / 10 for task in TASKS}
    shares[sorted(tasks)[0]] += 0.1
    seed = draw(st.integers(0, 99))
    if budget:
        return Batches(made, shares, None, seed, tokens=draw(st.integers(9, 90)))
    return Batches(made, shares, draw(st.integers(1, 24)), seed)


def budgets():
    """Batches of so many tokens, of the same mixes."""
    return mixes(budget=True)


def again(batches):
    """The same batches, of which none has been asked for yet."""
    shares = dict(zip(batches.tasks, batches.proportions, strict=True))
    size = None if batches.tokens else batches.size
    return Batches(batches.examples, shares, size, batches.seed, tokens=batches.tokens)


def as_lists(members):
    return [(task, numbers.tolist()) for task, numbers in members]


@given(mixes() | budgets(), st.lists(st.integers(0, 3 * WINDOW), min_size=1, max_size=5))
def test_a_step_depends_on_the_seed_and_its_number_only(batches, steps):
    in_order = {step: as_lists(batches.members(step)) for step in range(3 * WINDOW + 1)}
    jumping = again(batches)
    for step in steps:
        assert as_lists(jumping.members(step)) == in_order[step]


@given(mixes())
def test_every_step_is_full_and_no_task_gives_less_than_nothing(batches):
    for step in range(2 * WINDOW):
        counts = batches.counts(step)
        assert sum(counts) == batches.size
        assert min(counts) >= 0
        assert [len(numbers) for _, numbers in batches.members(step)] == counts


def test_a_tiny_share_never_counts_backwards():
    shares = {"indexing": 0.5, "pseudo": 0.1, "labeled": 0.4}
    batches = Batches({task: examples(9) for task in TASKS}, shares, 1, seed=0)
    counts = [batches.counts(step) for step in range(100)]
    assert np.min(counts) == 0
    assert np.sum(counts, axis=0).tolist() == [50, 10, 40]


@given(mixes())
def test_over_many_steps_the_mix_is_exact(batches):
    steps = 50
    drawn = np.sum([batches.counts(step) for step in range(steps)], axis=0)
    total = sum(Fraction(share) for share in batches.proportions)
    for share, count in zip(batches.proportions, drawn, strict=True):
        exact = steps * batches.size * Fraction(share) / total
        assert abs(count - exact) < 3


@given(mixes())
def test_every_example_comes_once_in_each_pass(batches):
    windows = 3
    seen: dict[str, Counter] = {task: Counter() for task in batches.tasks}
    for step in range(windows * WINDOW):
        for task, numbers in batches.members(step):
            seen[task].update(numbers.tolist())
    for task, counter in seen.items():
        drawn, size = counter.total(), len(batches.examples[task])
        passes, rest = divmod(drawn, size)
        times = Counter(counter[number] for number in range(size))
        assert times == Counter({passes: size - rest, passes + 1: rest}) - Counter()


@given(mixes() | budgets(), st.integers(0, 2 * WINDOW), st.integers(1, 4), st.integers(1, 3))
def test_parts_and_processes_share_a_step_without_loss(batches, step, parts, world):
    wanted = Counter(
        (task, 2 * number) for task, numbers in batches.members(step) for number in numbers.tolist()
    )
    found: Counter = Counter()
    sizes = []
    for rank in range(world):
        pieces = batches.parts(step, parts, rank, world)
        assert len(pieces) == parts
        for piece in pieces:
            sizes.append(len(piece))
            found.update(
                ("labeled" if is_labeled else "other", int(row))
                for row, is_labeled in zip(piece.rows, piece.labeled, strict=True)
            )
    merged = Counter()
    for (task, row), count in wanted.items():
        merged["labeled" if task == "labeled" else "other", row] += count
    assert found == merged
    assert max(sizes) - min(sizes) <= 1


@given(mixes() | budgets(), st.integers(0, WINDOW))
def test_a_batch_holds_the_tokens_of_its_examples(batches, step):
    (batch,) = batches.parts(step, 1)
    place = 0
    for task, numbers in batches.members(step):
        for number in numbers.tolist():
            line = batches.examples[task].line(number)
            length = int(batch.attention_mask[place].sum())
            assert batch.input_ids[place, :length].tolist() == line.tolist()
            assert not batch.input_ids[place, length:].any()
            assert not batch.attention_mask[place, length:].any()
            assert batch.rows[place] == 2 * number
            assert batch.labeled[place] == (task == "labeled")
            before = [t for t in TASKS[: TASKS.index(task)] if t in batches.examples]
            assert batch.numbers[place] == number + sum(len(batches.examples[t]) for t in before)
            place += 1
    assert place == len(batch) == sum(batches.counts(step))
    assert batches.tokens or len(batch) == batches.size
    assert batch.input_ids.shape[1] == batch.attention_mask.sum(axis=1).max()


@given(budgets())
def test_no_batch_exceeds_its_tokens_and_none_is_tiny(batches):
    for step in range(3 * WINDOW):
        (batch,) = batches.parts(step, 1)
        assert 0 < batch.input_ids.size <= batches.tokens
        assert len(batch) >= batches.fewest


@given(budgets())
def test_a_budget_of_tokens_takes_every_example_as_often_as_a_size_would(batches):
    """The windows are those of a size, only cut otherwise: what is in them is the same."""
    windows = 3
    shares = dict(zip(batches.tasks, batches.proportions, strict=True))
    sized = Batches(batches.examples, shares, batches.size, batches.seed)
    expected, found = Counter(), Counter()
    for step in range(windows * WINDOW):
        for task, numbers in sized.members(step):
            expected.update((task, number) for number in numbers.tolist())
    step = 0
    while found.total() < expected.total():
        for task, numbers in batches.members(step):
            found.update((task, number) for number in numbers.tolist())
        step += 1
    assert found == expected
    assert batches.total(step) == found.total()


@given(budgets())
def test_memory_is_reckoned_with_the_longest_texts_and_batches_like_those_to_come(batches):
    shapes = batches.shapes()
    longest = max(int(batches.examples[task].lengths.max()) for task in batches.tasks)
    assert shapes[0] == (batches.tokens // longest, longest)
    real = {batches.parts(step, 1)[0].input_ids.shape for step in range(len(shapes) - 1)}
    assert set(shapes[1:]) == real


def test_many_short_texts_or_few_long_ones():
    lines = [[1] * length for length in [1, 8] * 64]
    made = {"pseudo": Examples.pack(lines, range(128))}
    batches = Batches(made, {"pseudo": 1.0}, None, seed=0, tokens=16)
    assert batches.size == 3  # of 4.5 tokens
    shapes = {batches.parts(step, 1)[0].input_ids.shape for step in range(12)}
    assert (2, 8) in shapes
    assert (12, 1) in shapes  # the window's 24 short ones: 16 would leave 8


@pytest.mark.parametrize("given", [{"size": 4, "tokens": 9}, {"size": None}])
def test_a_size_or_tokens(given):
    with pytest.raises(ValueError, match="either"):
        Batches({"pseudo": examples(5)}, {"pseudo": 1.0}, seed=0, **given)


def test_steps_of_a_window_take_neighbors_by_length():
    batches = Batches({"pseudo": examples(16 * WINDOW)}, {"pseudo": 1.0}, 16, seed=0)
    (task,) = batches.tasks
    spans = []
    for step in range(WINDOW):
        ((_, numbers),) = batches.members(step)
        lengths = batches.examples[task].lengths[numbers]
        spans.append((lengths.min(), lengths.max()))
    spans.sort()
    assert all(high <= low for (_, high), (low, _) in pairwise(spans))


def test_seeds_and_passes_bring_other_companions():
    first = Batches({"pseudo": examples(64)}, {"pseudo": 1.0}, 8, seed=0)
    other = Batches({"pseudo": examples(64)}, {"pseudo": 1.0}, 8, seed=1)
    assert as_lists(first.members(0)) != as_lists(other.members(0))
    # 64 examples are 8 steps: the second half of the window is a second pass.
    pairs = [
        sorted(numbers.tolist()) for step in range(WINDOW) for _, numbers in first.members(step)
    ]
    assert len({tuple(pair) for pair in pairs}) == WINDOW


def test_shares_of_tasks_without_examples_go_to_the_others():
    shares = {"indexing": 0.2, "pseudo": 0.6, "labeled": 0.2}
    batches = Batches({"indexing": examples(5), "pseudo": examples(5)}, shares, 8, seed=0)
    assert batches.tasks == ["indexing", "pseudo"]
    drawn = np.sum([batches.counts(step) for step in range(100)], axis=0)
    assert drawn.tolist() == [200, 600]


def test_a_task_without_a_share_is_left_out():
    batches = Batches(
        {"indexing": examples(5), "pseudo": examples(5)}, {"pseudo": 1.0, "indexing": 0}, 4, seed=0
    )
    assert batches.tasks == ["pseudo"]


@pytest.mark.parametrize("size", [1, 3])
def test_a_part_may_be_empty(size):
    batches = Batches({"pseudo": examples(5)}, {"pseudo": 1.0}, size, seed=0)
    sizes = [len(part) for rank in range(2) for part in batches.parts(0, 2, rank, 2)]
    assert sorted(sizes) == [0] * (4 - size) + [1] * size
    empty = next(part for rank in (1, 0) for part in batches.parts(0, 2, rank, 2)[::-1])
    assert empty.input_ids.shape == (0, 1)


def test_examples_keep_lines_and_rows():
    packed = Examples.pack([[4, 5], [6], [7, 8, 9]], [3, 1, 1])
    assert len(packed) == 3
    assert [packed.line(number).tolist() for number in range(3)] == [[4, 5], [6], [7, 8, 9]]
    assert packed.lengths.tolist() == [2, 1, 3]
    assert packed.rows.tolist() == [3, 1, 1]
    assert len(Examples.pack([], [])) == 0


@pytest.mark.parametrize("length", [1, 7])
def test_a_budget_of_tokens_keeps_to_the_shares_of_old_and_new(length):
    """With texts of one length a budget is a size, and never runs out of windows."""
    texts = Examples.pack([[5] * length] * 30, list(range(30)))
    made = {"pseudo/new": texts, "pseudo/old": texts}
    shares = {"pseudo/new": 0.25, "pseudo/old": 0.75}
    batches = ReplayBatches(
        made, shares, None, 0, steps=10, tokens=8 * length, factors=np.full(10, 0.5)
    )
    assert batches.size == 8
    counts = np.array([batches.counts(step) for step in range(5 * WINDOW)])
    assert (counts.sum(axis=1) == 8).all()
    new = batches.tasks.index("pseudo/new")
    assert counts[:, new].sum() == 5 * WINDOW * 8 // 8  # half of a quarter


def table_of(counts, identifiers):
    ids = [f"d{i}" for i in range(len(counts))]
    return DocidTable.from_sequences(
        ids, identifiers, alphabet_size=6, kind="test", counts=counts, shared=True
    )


def test_a_text_teaches_every_identifier_of_its_document():
    table = table_of([2, 1], [(2, END), (3, END), (4, END)])
    given = Examples.pack([[7, 8], [9], [5, 5, 5]], [1, 0, 0])
    made = per_identifier(given, table)
    lines = [(made.line(i).tolist(), int(made.rows[i])) for i in range(len(made))]
    assert lines == [
        ([7, 8], 2),
        ([9], 0),
        ([9], 1),
        ([5, 5, 5], 0),
        ([5, 5, 5], 1),
    ]


def test_nothing_changes_where_each_document_has_one_identifier():
    given = Examples.pack([[7]], [0])
    assert per_identifier(given, table_of([1], [(2,)])) is given


def test_a_code_stands_for_the_documents_behind_all_identifiers_with_it():
    table = table_of([2, 1], [(2,), (3,), (3,)])
    vectors = np.array([[1, 0], [0, 1]], np.float32)
    rows = code_vectors(table, vectors, 6)
    assert rows[2].tolist() == [1, 0]
    np.testing.assert_allclose(rows[3], [0.5**0.5, 0.5**0.5], rtol=1e-6)


CHAIN = [
    Document("pen", "Pens", "A pen writes on paper. It needs ink."),
    Document("ink", "Ink", "Ink is a dye in water. Water boils."),
]


def test_chains_teach_the_later_hops_to_the_network_and_to_the_lexical_layer(tmp_path):
    judged = [Qrel("q", "pen", 1, "train"), Qrel("q", "ink", 1, "train")]
    source = InMemorySource(CHAIN, [Query("q", "What writes?")], judged)
    dataset = write_dataset(tmp_path / "ds", source)
    table = DocidTable.from_sequences(["ink", "pen"], [(2,), (3,)], alphabet_size=4, kind="test")

    def taught(chains):
        found = task_queries(dataset, table, MixOptions(chains=chains), None)
        texts, rows = found["labeled"]
        return list(zip(texts, rows.tolist(), strict=True))

    first, linking = ("What writes?", 1), ("What writes? It needs ink.", 0)
    assert taught("none") == [first, ("What writes?", 0)]
    assert taught("ordered") == [first, linking]
    assert taught("unordered") == [
        first, ("What writes?", 0), linking, ("What writes? Ink is a dye in water.", 1)
    ]  # fmt: skip
    assert labeled_rows(dataset, table).tolist() == [0, 1]
    for chains in ("none", "ordered", "unordered"):
        learned = _judged(dataset, table, "train", MixOptions(chains=chains))
        assert list(zip(learned.texts, learned.rows.tolist(), strict=True)) == taught(chains)


def test_chains_select_the_checkpoint_by_later_hops_too(tmp_path):
    judged = [Qrel("q", "pen", 1, "dev"), Qrel("q", "ink", 1, "dev")]
    source = InMemorySource(CHAIN, [Query("q", "What writes?")], judged)
    dataset = write_dataset(tmp_path / "ds", source)

    def read_by_validation(chains):
        options = TrainingOptions(mix=MixOptions(chains=chains, query_length=64), generator="none")
        prepared = prepare(dataset, tmp_path / chains, options, None)
        dev = _dev_queries(dataset, prepared, options)
        doc_ids = prepared.assignment.table.doc_ids
        return sorted((text, doc_ids[row]) for text, row in zip(dev.texts, dev.rows, strict=True))

    first, linking = ("What writes?", "pen"), ("What writes? It needs ink.", "ink")
    assert read_by_validation("none") == [first]
    assert read_by_validation("ordered") == [first, linking]


@pytest.mark.parametrize(("lexical", "steps"), [(True, 0), (False, 160)])
def test_chains_train_the_network_only_without_a_lexical_layer(lexical, steps):
    options = TrainingOptions(
        mix=MixOptions(chains="ordered"), lexical=LexicalOptions(enabled=lexical)
    )
    assert resolve_start(options, None).loop.steps == steps
    if lexical:
        none = replace(options, loop=LoopOptions(steps=0))
        assert resolve_start(none, None).loop.steps == 0


def test_chains_need_labeled_queries():
    with pytest.raises(InputError, match=r"--mix.chains ordered has no effect while --mix.labeled"):
        MixOptions(chains="ordered", labeled=0.0)
