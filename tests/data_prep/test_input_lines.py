"""Input is read whole and in its own encoding, or refused in one line that names the file."""

import gzip
import json

import pytest

from data_prep.dataset import Qrel
from data_prep.errors import InputError
from data_prep.sources import lines as opener
from data_prep.sources.judged import read_qrels
from data_prep.sources.lines import lines
from data_prep.sources.records import records


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_every_encoding_gives_the_same_lines(tmp_path, encoding):
    path = tmp_path / "d.tsv"
    path.write_bytes("id\tä\n1\tb\n".encode(encoding))
    assert list(lines(path, encoding)) == [(1, "id\tä\n"), (2, "1\tb\n")]


def test_old_mac_line_ends_part_lines(tmp_path):
    path = tmp_path / "test.tsv"
    path.write_bytes(b"query-id\tcorpus-id\tscore\rq1\td1\t0\r")
    assert list(read_qrels(path, "test")) == [Qrel("q1", "d1", 0, "test")]


def test_damaged_gzip_names_the_file(tmp_path):
    path = tmp_path / "d.jsonl.gz"
    whole = gzip.compress(b'{"id":1,"text":"alpha"}\n{"id":2,"text":"beta"}\n')
    path.write_bytes(whole[:14] + b"\xff\xff\xff\xff" + whole[18:])
    with pytest.raises(InputError, match=r"d\.jsonl\.gz: damaged gzip"):
        list(lines(path))


def test_a_line_over_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(opener, "LONGEST_LINE", 4)
    path = tmp_path / "d.txt"
    path.write_bytes(b"abc\nabcdef\n")
    with pytest.raises(InputError, match=r"d\.txt:2: a line of more than 4 bytes"):
        list(lines(path))


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 100_000 + "]" * 100_000])
def test_json_over_the_limits_names_the_line(tmp_path, value):
    path = tmp_path / "d.jsonl"
    path.write_text('{"id": ' + value + "}\n")
    with pytest.raises(InputError, match=r"d\.jsonl:1"):
        list(records(path))


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("id,text,text\n1,a,b\n")
    with pytest.raises(InputError, match="'text' is there twice"):
        list(records(path))


def test_a_judgement_of_zero_stays_zero_where_the_first_line_has_none(tmp_path):
    path = tmp_path / "r.jsonl"
    rows = [{"qid": "a", "docid": "1"}, {"qid": "b", "docid": "2", "relevance": 0}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [qrel.relevance for qrel in read_qrels(path, "test")] == [1, 0]


def test_a_relevance_of_another_name_is_not_taken_for_one(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("qid,docid,rating\na,1,0\n")
    with pytest.raises(InputError, match="'rating' may be the relevance"):
        list(read_qrels(path, "test"))
