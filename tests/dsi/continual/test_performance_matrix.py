"""Measures of continual indexing on tables that can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dsi.continual import performance_matrix as continual

NAN = float("nan")
P = np.array(
    [
        [0.9, NAN, NAN],
        [0.6, 0.8, NAN],
        [0.7, 0.5, 0.4],
    ]
)


def test_the_average_is_over_all_corpora_so_far():
    assert continual.average_performance(P, 0) == pytest.approx(0.9)
    assert continual.average_performance(P, 1) == pytest.approx(0.7)
    assert continual.average_performance(P, 2) == pytest.approx(1.6 / 3)


def test_forgetting_is_measured_from_the_best_so_far():
    assert continual.forgetting(P, 0) is None
    assert continual.forgetting(P, 1) == pytest.approx(0.3)
    # D0: 0.9 - 0.7, D1: 0.8 - 0.5
    assert continual.forgetting(P, 2) == pytest.approx(0.25)


def test_the_best_may_come_later_than_the_first():
    table = np.array([[0.5, NAN, NAN], [0.8, 0.6, NAN], [0.7, 0.9, 0.3]])
    # D0 was best after D1: 0.8 - 0.7; D1 has improved: 0.6 - 0.9
    assert continual.forgetting(table, 2) == pytest.approx((0.1 - 0.3) / 2)


def test_learning_is_the_diagonal_without_the_first_corpus():
    assert continual.learning_performance(P, 0) is None
    assert continual.learning_performance(P, 1) == pytest.approx(0.8)
    assert continual.learning_performance(P, 2) == pytest.approx(0.6)


def test_the_printed_average_of_mixlora_dsi_needs_all_five_corpora():
    """Its AP_4 is the mean of five values, as METHODS notes of its table."""
    last = np.full((5, 5), NAN)
    last[4] = [66.1, 54.1, 68.4, 75.8, 76.2]
    assert continual.average_performance(last, 4) == pytest.approx(68.12)


def test_the_worst_case_counts_every_corpus_alike():
    histories = [[0.9, 0.2, 0.7], [0.6, 0.5]]
    assert continual.min_acc(histories) == pytest.approx(0.35)
    assert continual.worst_case_acc(0.8, histories) == pytest.approx(0.8 / 3 + 2 / 3 * 0.35)
    assert continual.worst_case_acc(0.8, []) == 0.8


@pytest.mark.parametrize(
    ("values", "window", "expected"),
    [
        ([0.9, 0.5, 0.7], 2, 0.4),
        ([0.9, 0.8, 0.6, 0.5], 2, 0.2),
        ([0.9, 0.8, 0.6, 0.5], 3, 0.3),
        ([0.9, 0.8, 0.6, 0.5], 10, 0.4),
        ([0.1, 0.2, 0.3], 10, 0.0),
        ([0.5], 10, 0.0),
        ([], 10, 0.0),
    ],
)
def test_the_largest_drop_inside_a_window(values, window, expected):
    assert continual.windowed_drop(values, window) == pytest.approx(expected)


def test_windowed_forgetting_and_plasticity_are_means_over_corpora():
    curves = [[0.9, 0.5, 0.7], [0.2, 0.3]]
    assert continual.windowed_forgetting(curves, 10) == pytest.approx(0.2)
    assert continual.windowed_plasticity(curves, 10) == pytest.approx(0.15)


def test_a_forgetting_event_is_from_right_to_wrong_in_a_row():
    correct = np.array(
        [[1, 1, 0, 1], [0, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1]],
        dtype=bool,
    )
    assert continual.forgetting_events(correct).tolist() == [2, 0, 0, 1]
