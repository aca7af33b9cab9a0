from __future__ import annotations

import gzip
import math
import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import InputError
from dsi.search.options import read_doc_ids
from dsi.search.runs import ranked, read_run, write_run

ids = st.text("abcé1-\\u0 \t\n\u00a0\u2028\x1c\r", min_size=1, max_size=4)
scores = st.one_of(
    st.sampled_from([-1.0, 0.0, -1e-9, 1.0, 1.0 + 1e-12, 3e38, -3e38]),
    st.floats(-1e30, 1e30),
)
runs = st.dictionaries(ids, st.dictionaries(ids, scores, min_size=1, max_size=8), max_size=4)


@settings(deadline=None)  # disk speed varies
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
        ("q1 Q0 d2 2 1_0 tag", "line 2.*'1_0' is not a finite number"),
        ("q1 Q0 d2 2 1e999 tag", "line 2.*'1e999' is not a finite number"),
        ("q1 Q0 d1 2 0.5 tag", "line 2.*'d1' appears twice for query 'q1'"),
    ],
)
def test_a_broken_line_is_named(tmp_path, second, words):
    (tmp_path / "run").write_text(f"q1 Q0 d1 1 0.9 tag\n{second}\n")
    with pytest.raises(InputError, match=words):
        read_run(tmp_path / "run")


def test_a_file_that_is_not_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "run").write_bytes(b"q Q0 d\xff 1 1 t\n")
    with pytest.raises(InputError, match="not utf-8"):
        read_run(tmp_path / "run")
    with pytest.raises(InputError, match="no such run file"):
        read_run(tmp_path / "other")
    with pytest.raises(InputError, match="this is a folder, not a run file"):
        read_run(tmp_path)


@pytest.mark.parametrize("run", [{"": {"d": 1.0}}, {"q": {"": 1.0}}])
def test_an_empty_id_leaves_the_old_file(tmp_path, run):
    (tmp_path / "run").write_text("old")
    with pytest.raises(InputError, match="is not valid in a TREC run"):
        write_run(tmp_path / "run", run)
    assert (tmp_path / "run").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def test_a_tag_of_two_words_is_refused(tmp_path):
    with pytest.raises(InputError, match="run tag 'my run'"):
        write_run(tmp_path / "run", {"q": {"d": 1.0}}, "my run")


def test_white_space_in_an_id_is_escaped_and_comes_back(tmp_path):
    run = {"q 1": {"d\t7": 3.0, r"C:\users": 2.0, r"\u0020": 1.0}}
    write_run(tmp_path / "run", run)
    assert (tmp_path / "run").read_text() == (
        "q\\u00201 Q0 d\\u00097 1 3 dsi\n"
        "q\\u00201 Q0 C:\\u005cusers 2 2 dsi\n"
        "q\\u00201 Q0 \\u005cu0020 3 1 dsi\n"
    )
    assert read_run(tmp_path / "run") == run


def test_a_gzipped_run_is_written_and_read_under_any_name(tmp_path):
    write_run(tmp_path / "run.gz", {"q": {"d": 1.0}})
    assert gzip.decompress((tmp_path / "run.gz").read_bytes()) == b"q Q0 d 1 1 dsi\n"
    (tmp_path / "run.gz").rename(tmp_path / "run")
    assert read_run(tmp_path / "run") == {"q": {"d": 1.0}}
    (tmp_path / "cut").write_bytes((tmp_path / "run").read_bytes()[:-9])
    with pytest.raises(InputError, match="cut: damaged gzip file"):
        read_run(tmp_path / "cut")


def test_a_run_goes_through_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=write_run, args=(tmp_path / "pipe", {"q": {"d": 1.0}}))
    writer.start()
    assert read_run(tmp_path / "pipe") == {"q": {"d": 1.0}}
    writer.join()
    assert (tmp_path / "pipe").is_fifo()


def test_a_score_that_is_not_finite_is_a_defect(tmp_path):
    with pytest.raises(ValueError, match="score -inf"):
        write_run(tmp_path / "run", {"q": {"d": -math.inf}})


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"\xef\xbb\xbfa\r\nb", ["a", "b"]),
        (b"a \n  b\n\n \t\nc\td\n", ["a ", "  b", "c\td"]),
        ("a\u2028b\nc\x0bd\x1c\n".encode(), ["a\u2028b", "c\x0bd\x1c"]),
        (b"a\rb\r", ["a", "b"]),
        (gzip.compress(b"a\nb\n", mtime=0), ["a", "b"]),
        ("a\nå\n".encode("utf-16"), ["a", "å"]),
        ("a\nb\n".encode("utf-16-le"), ["a", "b"]),
    ],
)
def test_an_id_is_all_of_its_line(tmp_path, content, ids):
    (tmp_path / "ids").write_bytes(content)
    assert read_doc_ids(tmp_path / "ids") == ids


def test_a_file_without_ids_is_refused(tmp_path):
    (tmp_path / "ids").write_text("\n \n")
    with pytest.raises(InputError, match="the file contains no document id"):
        read_doc_ids(tmp_path / "ids")
