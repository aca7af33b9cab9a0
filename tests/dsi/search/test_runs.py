import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import InputError
from dsi.search.runs import ranked, read_run, write_run

ids = st.text("abcé1-", min_size=1, max_size=4)
scores = st.one_of(
    st.sampled_from([-1.0, 0.0, -1e-9, 1.0, 1.0 + 1e-12, 3e38, -3e38]),
    st.floats(-1e30, 1e30),
)
runs = st.dictionaries(ids, st.dictionaries(ids, scores, min_size=1, max_size=8), max_size=4)


@settings(deadline=None)  # the disk has its own pace
@given(run=runs)
def test_ranks_survive_a_round_trip_and_no_two_scores_are_equal(tmp_path_factory, run):
    path = tmp_path_factory.mktemp("runs") / "run.trec"
    write_run(path, run)
    read = read_run(path)
    assert list(read) == list(run)
    for query_id, documents in run.items():
        assert ranked(read[query_id]) == ranked(documents)
        assert len(set(np.float32(list(read[query_id].values())))) == len(documents)
        for doc_id, score in documents.items():
            assert read[query_id][doc_id] == pytest.approx(score, rel=1e-5, abs=1e-30)


def test_a_line_is_query_q0_document_rank_score_tag(tmp_path):
    write_run(tmp_path / "run", {"q2": {"d1": -1.5, "d2": -0.25}, "q1": {"d1": 3.0}}, "mine")
    assert (tmp_path / "run").read_text() == (
        "q2 Q0 d2 1 -0.25 mine\nq2 Q0 d1 2 -1.5 mine\nq1 Q0 d1 1 3 mine\n"
    )


def test_equal_scores_keep_the_order_of_the_run():
    assert ranked({"b": 1.0, "a": 1.0, "c": 2.0}) == ["c", "b", "a"]


def test_the_score_decides_and_not_the_rank_field(tmp_path):
    (tmp_path / "run").write_text("q Q0 a 1 0.5 t\n\nq\t0\tb\t2\t1e1\tt\n")
    assert list(read_run(tmp_path / "run").items()) == [("q", {"b": 10.0, "a": 0.5})]
    assert list(read_run(tmp_path / "run")["q"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ("q1 Q0 d2 2 0.5", "line 2.*5 fields"),
        ("q1 Q0 a title 2 0.5 tag", "line 2.*7 fields"),
        ("q1 Q0 d2 2 high tag", "line 2.*'high' is not a finite number"),
        ("q1 Q0 d2 2 nan tag", "line 2.*'nan'"),
        ("q1 Q0 d1 2 0.5 tag", "line 2.*'d1' appears twice for query 'q1'"),
    ],
)
def test_a_broken_line_is_named(tmp_path, second, words):
    (tmp_path / "run").write_text(f"q1 Q0 d1 1 0.9 tag\n{second}\n")
    with pytest.raises(InputError, match=words):
        read_run(tmp_path / "run")


def test_a_file_that_is_not_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "run").write_bytes(b"q Q0 d\xff 1 1 t\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_run(tmp_path / "run")
    for missing in (tmp_path / "other", tmp_path):
        with pytest.raises(InputError, match="no such run file"):
            read_run(missing)


@pytest.mark.parametrize(
    "run", [{"two words": {"d": 1.0}}, {"q": {"a b": 1.0}}, {"q": {"": 1.0}}, {"q": {"a\n": 1.0}}]
)
def test_an_id_that_the_format_cannot_hold_leaves_the_old_file(tmp_path, run):
    (tmp_path / "run").write_text("old")
    with pytest.raises(InputError, match="cannot stand in a TREC run"):
        write_run(tmp_path / "run", run)
    assert (tmp_path / "run").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def test_a_score_that_is_not_finite_is_a_defect(tmp_path):
    with pytest.raises(ValueError, match="score -inf"):
        write_run(tmp_path / "run", {"q": {"d": -math.inf}})
