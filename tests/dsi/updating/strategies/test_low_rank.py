"""Adapters of an update: the slow one follows the fast one, and marked entries are avoided."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsi.backbones.backbone import from_scratch
from dsi.training.optimization.lora import add_adapters, is_adapter, merge_adapters
from dsi.training.options import LoraOptions
from dsi.updating.strategies.i_lora import SlowAdapter, distance
from dsi.updating.strategies.reglora import MarkedEntries, largest
from dsi.updating.structures.low_rank import factors

pytest.importorskip("peft")


def network():
    model = from_scratch("tiny", text_vocabulary=11, alphabet_size=7, dropout=0.0)
    add_adapters(model, LoraOptions(rank=2, alpha=6, targets=["q", "wo"]), seed=0)
    return model


def move(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if is_adapter(name):
                weight.copy_(torch.randn(weight.shape, generator=generator))


def test_the_distance_by_hand():
    fast = [torch.tensor([[[1.0, 2.0], [9.0, 9.0]]]), torch.tensor([[[0.0, 0.0], [9.0, 9.0]]])]
    slow = [torch.tensor([[[2.0, 0.0], [0.0, 0.0]]]), torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])]
    there = torch.tensor([[True, False]])
    # Layers (1 + 4) / 2 and (1 + 1) / 2; the second position does not count.
    assert distance(fast, slow, there).item() == pytest.approx((2.5 + 1) / 2)
    # The larger of both: only where the slow state is above, 1 / 2 and 2 / 2.
    assert distance(fast, slow, there, larger=True).item() == pytest.approx((0.5 + 1) / 2)


def test_the_distance_is_a_mean_over_positions_and_a_sum_over_examples():
    fast, slow = [torch.zeros(2, 2, 1)], [torch.tensor([[[1.0], [2.0]], [[3.0], [7.0]]])]
    there = torch.tensor([[True, True], [True, False]])
    assert distance(fast, slow, there).item() == pytest.approx((1 + 4) / 2 + 9)


def test_the_slow_adapter_is_a_moving_mean_of_the_fast_one():
    model = network()
    term = SlowAdapter(1.0, model, torch.tensor([True]), rate=0.6, larger=False)
    name = next(name for name in term.slow if "lora_B" in name)
    expected = term.slow[name].clone()
    for step in range(5):
        move(model, step)
        fast = dict(model.named_parameters())[name].detach().clone()
        kept = [0, 1 / 2, 0.6, 0.6, 0.6][step]  # 1 - 1 / (step + 1), but 0.6 at most
        expected = kept * expected + (1 - kept) * fast
        term.after_step(model, step)
        torch.testing.assert_close(term.slow[name], expected)


def test_a_checkpoint_has_the_slow_adapter():
    model = network()
    term = SlowAdapter(1.0, model, torch.tensor([True]), rate=0.5, larger=False)
    move(model, 1)
    term.after_step(model, 3)
    saved = {name: value.clone() for name, value in term.state().items()}
    other = SlowAdapter(1.0, model, torch.tensor([True]), rate=0.5, larger=False)
    other.restore(saved)
    move(model, 2)
    for each in (term, other):
        each.after_step(model, 4)
    assert all(term.slow[name].equal(other.slow[name]) for name in term.slow)


def forward_of(model, rows):
    import numpy as np

    from dsi.data.batching import Batch
    from dsi.objectives.base import Forward, Targets

    size = len(rows)
    ids = np.array([[2, 3, 4], [5, 6, 0]])[:size]
    batch = Batch(
        ids, (ids > 0).astype(np.int64), np.array(rows), np.zeros(size, bool), np.arange(size)
    )
    codes = torch.tensor([[2, 3], [4, -100]])
    return Forward(model, batch, Targets(codes, None), hidden_states=True)


def test_only_old_documents_pull_at_the_fast_adapter():
    model = network()
    move(model, 0)
    term = SlowAdapter(1.0, model, torch.tensor([True, False]), rate=0.5, larger=False)
    assert term.of_examples(forward_of(model, [0, 1])).item() == pytest.approx(0, abs=1e-6)
    move(model, 1)
    assert term.of_examples(forward_of(model, [1])).item() == 0
    both = term.of_examples(forward_of(model, [0, 1]))
    alone = term.of_examples(forward_of(model, [0]))
    assert both.item() == pytest.approx(alone.item(), rel=1e-4)
    # By hand, in a second network that contains the slow adapter.
    slow = network()
    slow.load_state_dict(term.slow, strict=False)
    expected = []
    for side in ("encoder_hidden_states", "decoder_hidden_states"):
        pairs = zip(
            forward_of(model, [0]).outputs[side], forward_of(slow, [0]).outputs[side], strict=True
        )
        expected += [float((here - there).detach().square().mean()) for here, there in pairs]
    assert alone.item() == pytest.approx(sum(expected) / len(expected), rel=1e-4)
    alone.backward()
    moved = [
        weight.grad.abs().sum() for name, weight in model.named_parameters() if is_adapter(name)
    ]
    assert sum(moved) > 0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.02, 0.1, 0.5, 1.0]))
def test_the_largest_entries_equal_plain_python(seed, share):
    change = torch.randn(5, 8, generator=torch.Generator().manual_seed(seed))
    entries = sorted((abs(value), place) for place, value in enumerate(change.flatten().tolist()))
    wanted = {place for _, place in entries[-max(1, round(share * 40)) :]}
    marks = largest(change, share)
    assert set(torch.nonzero(marks.flatten()).flatten().tolist()) == wanted


def test_what_did_not_move_is_not_marked():
    assert not largest(torch.zeros(3, 4), 0.5).any()


def test_the_price_of_marked_entries_by_hand():
    model = network()
    move(model, 0)
    layers = {name: (b.detach(), a.detach(), scale) for name, b, a, scale in factors(model)}
    assert len(layers) == 6 + 4  # q in two encoder, twice in two decoder layers; wo in four
    first, second = list(layers)[:2]
    marks = {}
    for name in (first, second):
        b, a, _ = layers[name]
        marks[name] = torch.zeros(b.shape[0], a.shape[1], dtype=torch.bool)
    marks[first][1, 2] = marks[first][3, 0] = marks[second][0, 5] = True

    def entry(name, row, column):
        b, a, scale = layers[name]
        assert scale == 6 / 2
        return abs(scale * sum(float(b[row, k]) * float(a[k, column]) for k in range(2)))

    expected = (entry(first, 1, 2) + entry(first, 3, 0)) / 2 + entry(second, 0, 5)
    found = MarkedEntries(7.0, marks).of_weights(model)
    assert found.item() == pytest.approx(expected / len(layers), rel=1e-5)


def test_factors_are_what_is_merged():
    model = network()
    move(model, 0)
    name, b, a, scale = next(factors(model))
    before = model.get_submodule(name).get_base_layer().weight.detach().clone()
    merge_adapters(model)
    torch.testing.assert_close(model.get_submodule(name).weight, before + scale * b @ a)
