"""Input is read completely, in its own encoding, or refused with an error that names the file."""

import gzip
import json

import pytest

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from data_prep.sources import SourceOptions, detect
from data_prep.sources import lines as opener
from data_prep.sources.judged import read_qrels, read_queries
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
    with pytest.raises(InputError, match=r"d\.txt:2: a line is longer than 4 bytes"):
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
    with pytest.raises(InputError, match="'text' appears twice"):
        list(records(path))


def test_a_judgment_of_zero_stays_zero_where_the_first_line_has_none(tmp_path):
    path = tmp_path / "r.jsonl"
    rows = [{"qid": "a", "docid": "1"}, {"qid": "b", "docid": "2", "relevance": 0}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [qrel.relevance for qrel in read_qrels(path, "test")] == [1, 0]


@pytest.mark.parametrize(
    ("word", "relevance"), [("-1", -1), ("+2", 2), ("1e0", 1), ("2.0", 2), (" 3 ", 3)]
)
def test_a_relevance_is_a_whole_number_in_any_notation(tmp_path, word, relevance):
    (tmp_path / "r.csv").write_text(f"qid,docid,relevance\na,1,{word}\n")
    assert [qrel.relevance for qrel in read_qrels(tmp_path / "r.csv", "test")] == [relevance]


@pytest.mark.parametrize("word", ["0.5", "1_0", "\u0663", "0x1", "1e-3", "nan", "inf", "1,0", ""])
def test_what_only_python_or_nobody_reads_as_a_number_is_no_relevance(tmp_path, word):
    (tmp_path / "r.tsv").write_text(f"qid\tdocid\trelevance\na\t1\t{word}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"r\.tsv:2: the relevance .* is not a whole number"):
        list(read_qrels(tmp_path / "r.tsv", "test"))


def test_a_relevance_of_another_name_is_not_taken_for_one(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("qid,docid,rating\na,1,0\n")
    with pytest.raises(InputError, match="'rating' may contain the relevance"):
        list(read_qrels(path, "test"))


def test_grades_in_words_are_not_taken_for_relevance(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"qid": "a", "docid": "1", "grade": "irrelevant"}\n')
    with pytest.raises(InputError, match="'grade' may contain the relevance"):
        list(read_qrels(path, "test"))


def test_a_first_record_without_the_preferred_column_does_not_choose_for_all(tmp_path):
    path = tmp_path / "q.jsonl"
    rows = [{"id": "1", "title": "only a title"}, {"id": "2", "title": "t", "text": "the query"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [query.text for query in read_queries(path, SourceOptions())] == [
        "only a title",
        "the query",
    ]


def test_columns_are_found_record_by_record(tmp_path):
    path = tmp_path / "d.jsonl"
    rows = [
        {"id": 1, "title": "only a title", "text": None},
        {"id": 2, "text": "a", "url": "u"},
        {"id": 3, "title": "t", "contents": "b", "url": None},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(detect(str(path)).documents()) == [
        Document("1", "only a title", ""),
        Document("2", "", "a", "u"),
        Document("3", "t", "b"),
    ]
    named = SourceOptions(title_column="url")
    assert [document.title for document in detect(str(path), named).documents()] == ["", "u", ""]
    with pytest.raises(InputError, match="no column 'nope'; available: 'id', 'title', 'text'"):
        list(detect(str(path), SourceOptions(url_column="nope")).documents())


def test_queries_and_named_relevances_may_be_sparse_too(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"id": 1}\n{"id": 2, "text": "b"}\n')
    assert list(read_queries(path, SourceOptions())) == [Query("1", ""), Query("2", "b")]
    path.write_text('{"qid": 1, "docid": 2}\n{"qid": 1, "docid": 3, "stars": 0}\n')
    read = read_qrels(path, "test", SourceOptions(qrels_relevance_column="stars"))
    assert [qrel.relevance for qrel in read] == [1, 0]


def test_a_key_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text('{"id": 1, "text": "a", "meta": {"x": 1, "x": 2}}\n')
    assert len(list(records(path))) == 1
    path.write_text('{"id": 1, "text": "a", "text": "b"}\n')
    with pytest.raises(InputError, match=r"d\.jsonl:1: the key 'text' appears twice"):
        list(records(path))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_utf_16_needs_no_mark_where_it_begins_with_ascii(tmp_path, encoding, name):
    content = "id\ttext\r\n1\tä\u010d\u0a0d\r\n".encode(encoding)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert [line for _, line in lines(path)] == ["id\ttext\n", "1\tä\u010d\u0a0d\n"]


@pytest.mark.parametrize("encoding", ["utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "alpha \u00e9"),
        ("a.jsonl", '{"id": "a.txt", "title": "a", "text": "alpha \u00e9"}'),
        ("a.json", '[{"id": "a.txt", "title": "a", "text": "alpha \u00e9"}]'),
    ],
)
def test_utf_32_is_recognized(tmp_path, encoding, name, content):
    path = tmp_path / name
    mark = "\ufeff" if encoding == "utf-32-be" else ""
    path.write_bytes((mark + content).encode(encoding))
    assert list(detect(str(path)).documents()) == [Document("a.txt", "a", "alpha \u00e9")]


@pytest.mark.parametrize("encoding", ["nonsense", "hex", "rot13"])
@pytest.mark.parametrize("name", ["d.json", "d.jsonl", "d.tsv"])
def test_an_unknown_encoding_is_told(tmp_path, name, encoding):
    (tmp_path / name).write_text("[]")
    with pytest.raises(InputError, match=f"encoding: unknown encoding '{encoding}'"):
        list(records(tmp_path / name, encoding=encoding))


def test_a_single_null_character_is_no_utf_16(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\0bc\n")
    assert list(lines(path)) == [(1, "a\0bc\n")]


def test_a_mark_says_utf_16(tmp_path):
    path = tmp_path / "d.tsv"
    path.write_bytes("id\ttext\r\n1\tä\r\n".encode("utf-16"))
    assert [row for _, row in records(path)] == [{"id": "1", "text": "ä"}]


@pytest.mark.parametrize("end", ["", "\r", "\n"])
def test_old_mac_lines_before_another_end(tmp_path, end):
    path = tmp_path / "d.tsv"
    path.write_bytes(b"id\ttext\r1\ta\r2\tb" + end.encode())
    assert [row["id"] for _, row in records(path)] == ["1", "2"]


def test_a_return_inside_a_line_parts_no_line(tmp_path):
    path = tmp_path / "d.tsv"
    path.write_bytes(b"id\ttext\n1\ta\rb\n2\tc\n")
    assert [row["text"] for _, row in records(path)] == ["a\rb", "c"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "utf-32", "latin-1"])
@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("id\ttext\n1\ta\rb\n2\tc\n", ["a\rb", "c"]),
        ("id\ttext\r1\ta\r2\tc\r", ["a", "c"]),
        ("id\ttext\r\n1\ta\rb\r\n2\tc\r\n", ["a\rb", "c"]),
    ],
    ids=["unix", "old mac", "windows"],
)
def test_a_return_parts_lines_alike_in_every_encoding(tmp_path, encoding, content, texts):
    path = tmp_path / "d.tsv"
    path.write_bytes(content.encode(encoding))
    assert [row["text"] for _, row in records(path, encoding=encoding)] == texts


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.csv", "id,Text,TEXT\n1,a,b\n"),
        ("d.csv", "id,text,Text\n1,a,b\n"),
        ("d.csv", "id,ID,text\n1,2,a\n"),
        ("d.csv", "doc_id,doc-id,text\n1,2,a\n"),
        ("d.jsonl", '{"id": 1, "text": "a"}\n{"id": 2, "text": "a", "Text": "b"}\n'),
    ],
)
def test_two_columns_of_one_name_are_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=r"d\..*: the columns .* have one name.*-column"):
        list(detect(str(path), SourceOptions()).documents())


def test_a_column_that_is_chosen_may_have_others_of_its_name(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("id,Text,TEXT\n1,a,b\n")
    source = detect(str(path), SourceOptions(text_column="TEXT"))
    assert list(source.documents()) == [Document("1", "", "b")]


def test_a_file_of_judgments_without_one_is_refused(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text("query-id\tcorpus-id\tscore\n")
    with pytest.raises(InputError, match=r"train\.tsv: the file contains no judgments"):
        list(read_qrels(path, "train"))


def test_two_judgments_of_a_pair_that_disagree_are_refused(tmp_path):
    documents, queries = [Document("d", "", "x")], [Query("q", "x")]
    qrels = [Qrel("q", "d", 1, "test"), Qrel("q", "d", 0, "test")]
    with pytest.raises(InputError, match="'q' 'd' is judged 1 and 0 in test"):
        write_dataset(tmp_path / "ds", InMemorySource(documents, queries, qrels))


def test_a_beir_folder_names_relevance_and_has_no_file_twice(tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "text": "x"}\n')
    (tmp_path / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tstars\nq\td\t0\n")
    options = SourceOptions(qrels_relevance_column="stars")
    assert list(detect(str(tmp_path), options).qrels()) == [Qrel("q", "d", 0, "dev")]
    (tmp_path / "qrels" / "validation.tsv").write_text("q\td\t1\n")
    with pytest.raises(InputError, match=r"dev\.tsv: the same file also exists as validation\.tsv"):
        list(detect(str(tmp_path), options).qrels())


def test_a_header_option_for_json_is_refused(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text('{"id": 1, "text": "a"}\n')
    with pytest.raises(InputError, match="--header is for CSV and TSV files"):
        list(detect(str(path), SourceOptions(header=("id", "text"))).documents())


@pytest.mark.parametrize("header", ["ID,Title,Text", "id, title , text", "Doc-ID,TITLE,Body"])
def test_usual_names_are_known_in_any_case(tmp_path, header):
    path = tmp_path / "d.csv"
    path.write_text(f"{header}\n1,A,b\n")
    assert list(detect(str(path)).documents()) == [Document("1", "A", "b")]


def test_gzip_is_known_by_its_content(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_bytes(gzip.compress(b'{"id": 1, "Title": "t", "text": "a"}\n'))
    assert list(detect(str(path)).documents()) == [Document("1", "t", "a")]
