import itertools

import numpy as np
import pytest

from dsi.evaluation import significance
from dsi.evaluation.significance import compare


def column(*values):
    return np.array(values, float)[:, None]


def test_the_p_value_is_that_of_all_signs():
    first = column(0.9, 0.8, 0.4, 0.7, 0.6, 0.9, 0.5, 0.3)
    second = column(0.5, 0.7, 0.5, 0.4, 0.6, 0.6, 0.4, 0.2)
    difference = (first - second)[:, 0]
    means = [np.dot(signs, difference) for signs in itertools.product((-1, 1), repeat=8)]
    exact = np.mean(np.abs(means) >= abs(difference.sum()) - 1e-9)
    [found] = compare(first, second, permutations=50_000)
    assert found.p_value == pytest.approx(exact, abs=0.005)
    assert found.difference == pytest.approx(difference.mean())
    assert found.queries == 8


def test_the_interval_is_about_two_standard_errors_wide():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.3, 1, (2000, 1)), np.zeros((2000, 1))
    [found] = compare(first, second)
    error = first.std() / np.sqrt(2000)
    assert found.low == pytest.approx(first.mean() - 1.96 * error, abs=0.3 * error)
    assert found.high == pytest.approx(first.mean() + 1.96 * error, abs=0.3 * error)
    assert found.p_value == pytest.approx(1 / 10_001)


def test_p_values_of_like_systems_are_spread_evenly():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(50, 200))
    p_values = [c.p_value for c in compare(values, np.zeros_like(values), permutations=2000)]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.045)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.1)


def test_equal_systems_do_not_differ():
    [found] = compare(column(1, 0, 1), column(1, 0, 1))
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_swapping_the_systems_turns_the_sign():
    first, second = column(1, 1, 0, 1, 1), column(0, 1, 0, 0, 1)
    [one], [other] = compare(first, second), compare(second, first)
    assert one.difference == -other.difference
    assert one.p_value == other.p_value


def test_the_same_seed_gives_the_same_numbers_in_blocks_of_any_size(monkeypatch):
    rng = np.random.default_rng(2)
    first, second = rng.random((30, 3)), rng.random((30, 3))
    whole = compare(first, second, seed=5)
    assert whole == compare(first, second, seed=5)
    assert whole != compare(first, second, seed=6)
    monkeypatch.setattr(significance, "BLOCK", 100)
    for one, other in zip(whole, compare(first, second, seed=5), strict=True):
        assert one.difference == other.difference
        assert one.p_value == pytest.approx(other.p_value, abs=0.03)


@pytest.mark.parametrize("second", [np.zeros((2, 1)), np.zeros((3, 2))])
def test_values_of_other_queries_cannot_be_compared(second):
    with pytest.raises(ValueError, match="shapes"):
        compare(np.zeros((3, 1)), second)
    with pytest.raises(ValueError, match="shapes"):
        compare(np.zeros((0, 1)), np.zeros((0, 1)))
