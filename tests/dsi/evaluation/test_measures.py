from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsi.evaluation.judgments import group_queries
from dsi.evaluation.measures import MEASURES, evaluate_run


def test_the_measures_have_the_names_of_ir_measures():
    assert [str(measure) for measure in MEASURES] == [
        "Success@1", "Success@10", "Success@100", "RR@10", "nDCG@10", "R@100",
    ]  # fmt: skip


def test_values_computed_by_hand():
    qrels = {"third": {"d3": 1}, "two": {"d1": 1, "d9": 1, "d2": 0}, "far": {"d11": 1}}
    ranking = {f"d{place}": -float(place) for place in range(1, 13)}
    del ranking["d9"]
    found = evaluate_run(qrels, dict.fromkeys(qrels, ranking))
    assert found.per_query["third"] == pytest.approx(
        {"Success@1": 0, "Success@10": 1, "Success@100": 1, "RR@10": 1 / 3,
         "nDCG@10": 1 / math.log2(4), "R@100": 1, "All@10": 1}
    )  # fmt: skip
    # d1 is first, d9 is missing: the ideal ranking gains 1 + 1 / log2(3).
    assert found.per_query["two"] == pytest.approx(
        {"Success@1": 1, "Success@10": 1, "Success@100": 1, "RR@10": 1,
         "nDCG@10": 1 / (1 + 1 / math.log2(3)), "R@100": 0.5, "All@10": 0}
    )  # fmt: skip
    # Without d9, d11 is tenth.
    assert found.per_query["far"] == pytest.approx(
        {"Success@1": 0, "Success@10": 1, "Success@100": 1, "RR@10": 0.1,
         "nDCG@10": 1 / math.log2(11), "R@100": 1, "All@10": 1}
    )  # fmt: skip
    assert found.mean["RR@10"] == pytest.approx((1 / 3 + 1 + 0.1) / 3)
    assert found.mean_of(["two", "far"])["Success@1"] == 0.5


def test_the_eleventh_and_the_hundred_and_first_document_are_too_late():
    qrels = {"q": {"d11": 1}, "p": {"d101": 1}}
    ranking = {f"d{place}": -float(place) for place in range(1, 120)}
    found = evaluate_run(qrels, {"q": ranking, "p": ranking}).per_query
    assert [found["q"][name] for name in ("Success@10", "RR@10", "nDCG@10")] == [0, 0, 0]
    assert [found["q"][name] for name in ("Success@100", "R@100")] == [1, 1]
    assert set(found["p"].values()) == {0.0}


@pytest.mark.parametrize(("place", "value"), [(2, 1), (10, 1), (11, 0)])
def test_all_relevant_documents_are_among_the_first_ten(place, value):
    qrels = {"q": {"d1": 1, f"d{place}": 2, "d12": 0}, "none": {"d1": 0}, "absent": {"d1": 1}}
    ranking = {f"d{number}": -float(number) for number in range(1, 13)}
    found = evaluate_run(qrels, {"q": ranking, "none": ranking}).per_query
    assert [found[query]["All@10"] for query in qrels] == [value, 0, 0]
    # With one relevant document a query, it would repeat Success@10.
    assert "All@10" not in evaluate_run({"absent": {"d1": 1}}, {"absent": ranking}).per_query


@pytest.mark.parametrize("run", [{}, {"q1": {}}, {"other": {"d1": 1.0}}])
def test_a_query_without_results_counts_as_zero(run):
    found = evaluate_run({"q1": {"d1": 1}, "q2": {"d2": 1}}, {**run, "q2": {"d2": 1.0}})
    assert set(found.per_query["q1"].values()) == {0.0}
    assert set(found.mean.values()) == {0.5}
    assert list(found.per_query) == ["q1", "q2"]


def test_a_run_of_nothing_scores_zero():
    assert set(evaluate_run({"q1": {"d1": 1}}, {}).mean.values()) == {0.0}


def test_a_query_without_a_relevant_document_counts_as_zero():
    found = evaluate_run({"q1": {"d1": 0}, "q2": {"d1": 1}}, {q: {"d1": 1.0} for q in ("q1", "q2")})
    assert set(found.mean.values()) == {0.5}


def test_queries_of_equal_text_are_kept_apart_and_unjudged_ones_left_out():
    run = {"q1": {"d1": 1.0}, "q2": {"d1": 1.0}, "unjudged": {"d1": 1.0}}
    found = evaluate_run({"q1": {"d1": 1}, "q2": {"d2": 1}}, run)
    assert found.mean["Success@1"] == 0.5


@settings(deadline=None)
@given(st.permutations(["d1", "d2", "d3"]))
def test_all_measures_order_equal_scores_as_the_run_does(order):
    found = evaluate_run({"q": {"d2": 1}}, {"q": dict.fromkeys(order, 0.0)}).mean
    assert found["RR@10"] == 1 / (order.index("d2") + 1)
    assert found["Success@1"] == (order[0] == "d2")


def test_the_mean_of_no_query_has_no_value():
    assert evaluate_run({"q": {"d": 1}}, {}).mean_of([]) == {}


def test_a_query_is_seen_if_a_document_relevant_to_it_has_a_training_query():
    training = {"t1": {"d1": 1, "d2": 0}, "t2": {"d4": 2}}
    qrels = {
        "seen": {"d1": 1},
        "judged irrelevant in training": {"d2": 1},
        "never": {"d3": 1},
        "one of two": {"d3": 1, "d4": 1},
        "only its irrelevant one": {"d3": 1, "d1": 0},
        "nothing relevant": {"d1": 0},
    }
    assert group_queries(qrels, training) == {
        "all": list(qrels),
        "seen": ["seen", "one of two"],
        "unseen": ["judged irrelevant in training", "never", "only its irrelevant one"],
    }


def test_without_training_queries_everything_is_unseen():
    assert group_queries({"q": {"d": 1}}, {}) == {"all": ["q"], "seen": [], "unseen": ["q"]}
