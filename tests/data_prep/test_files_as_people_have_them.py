"""Folders of text, compressed tables, JSON arrays, Parquet, SQLite and pipes become documents."""

import bz2
import gzip
import json
import lzma
import os
import sqlite3
import threading
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.dataset import Document
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from data_prep.sources import SourceOptions, detect
from data_prep.sources import sqlite as sqlite_source
from data_prep.sources.judged import read_qrels, read_queries

RECORDS = [
    {"id": "1", "title": "Otters", "text": "They swim, fast"},
    {"id": "2", "title": "", "text": "Pikas whistle."},
]
EXPECTED = [Document("1", "Otters", "They swim, fast"), Document("2", "", "Pikas whistle.")]
JSONL = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()
PACKERS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
}


def documents(path, **options):
    return list(detect(str(path), SourceOptions(**options)).documents())


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


class TestCompression:
    @pytest.mark.parametrize("suffix", PACKERS)
    def test_every_table_may_be_compressed(self, tmp_path, suffix):
        for name, content in {
            "a.jsonl": JSONL,
            "a.json": json.dumps(RECORDS).encode(),
            "a.csv": b'id,title,text\n1,Otters,"They swim, fast"\n2,,Pikas whistle.\n',
            "a.tsv": b"id\ttitle\ttext\n1\tOtters\tThey swim, fast\n2\t\tPikas whistle.\n",
        }.items():
            (tmp_path / f"{name}{suffix}").write_bytes(PACKERS[suffix](content))
            assert documents(tmp_path / f"{name}{suffix}") == EXPECTED

    @pytest.mark.parametrize("suffix", PACKERS)
    def test_a_file_cut_short_is_told_in_one_line(self, tmp_path, suffix):
        whole = PACKERS[suffix](os.urandom(5000).hex().encode())
        (tmp_path / f"a.jsonl{suffix}").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError, match=rf"a\.jsonl\{suffix}: damaged .* file"):
            documents(tmp_path / f"a.jsonl{suffix}")

    def test_a_text_that_begins_like_bzip2_is_text(self, tmp_path):
        write(tmp_path / "a.tsv", "BZh9\ttext\nx\ty\n")
        assert documents(tmp_path / "a.tsv", id_column="BZh9") == [Document("x", "", "y")]

    def test_queries_and_judgments_too(self, tmp_path):
        (tmp_path / "q.tsv.xz").write_bytes(lzma.compress(b"q1\twho swims?\n"))
        (tmp_path / "r.txt.zst").write_bytes(PACKERS[".zst"](b"q1 0 1 1\n"))
        assert [query.text for query in read_queries(tmp_path / "q.tsv.xz", SourceOptions())] == [
            "who swims?"
        ]
        assert [qrel.doc_id for qrel in read_qrels(tmp_path / "r.txt.zst", "test")] == ["1"]


class TestJson:
    def test_an_array_is_read_object_by_object(self, tmp_path):
        for text in (json.dumps(RECORDS), json.dumps(RECORDS, indent=2), JSONL.decode()):
            assert documents(write(tmp_path / "a.json", text)) == EXPECTED

    def test_an_object_longer_than_what_is_read_at_once(self, tmp_path):
        records = [{"id": str(n), "text": "word " * 300_000} for n in range(3)]
        found = documents(write(tmp_path / "a.json", json.dumps(records)))
        assert [len(document.text) for document in found] == [1_500_000] * 3

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('[{"id": 1, "text": "x"}, {"id": 2', r"a\.json:2: not JSON"),
            ('[{"id": 1, "text": "x"} {"id": 2}]', r"a\.json:2: found '\{', expected ','"),
            ('[{"id": 1, "text": "x"}', r"a\.json:2: the array is not closed"),
            ('[{"id": 1, "text": "x"}] more', r"unexpected text after the end"),
            ('["x"]', r"a\.json:1: not a JSON object"),
            ('[{"id": 1, "id": 2}]', r"a\.json:1: the key 'id' appears twice"),
            ('"x"', r"a\.json:1: found '\"', expected '\['"),
        ],
    )
    def test_what_is_broken_is_named(self, tmp_path, text, message):
        with pytest.raises(InputError, match=message):
            documents(write(tmp_path / "a.json", text))


class TestPipes:
    @pytest.mark.parametrize(
        "content", [JSONL, json.dumps(RECORDS).encode(), gzip.compress(JSONL, mtime=0)]
    )
    def test_what_comes_through_a_pipe_is_read_as_often_as_needed(self, tmp_path, content):
        os.mkfifo(tmp_path / "pipe")
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,))
        writer.start()
        if content.startswith(b"\x1f"):
            source = detect(str(tmp_path / "pipe"), SourceOptions(format="jsonl"))
        else:
            source = detect(str(tmp_path / "pipe"))
        assert list(source.documents()) == EXPECTED == list(source.documents())
        writer.join()

    def test_a_format_that_nothing_says_has_to_be_named(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"id,text\n1,x\n",)).start()
        with pytest.raises(InputError, match=r"cannot tell the format.*--format: jsonl, json, csv"):
            detect(str(tmp_path / "pipe"))
        assert documents(tmp_path / "pipe", format="csv") == [Document("1", "", "x")]


class TestParquet:
    def test_a_file_and_a_folder_of_parts(self, tmp_path):
        pq.write_table(pa.Table.from_pylist(RECORDS), tmp_path / "whole.parquet")
        assert documents(tmp_path / "whole.parquet") == EXPECTED
        (tmp_path / "parts").mkdir()
        for number, record in enumerate(RECORDS):
            more = {**record, "vector": [1.0, 2.0]}
            pq.write_table(pa.Table.from_pylist([more]), tmp_path / f"parts/{number}.parquet")
        assert documents(tmp_path / "parts") == EXPECTED
        numbered = documents(tmp_path / "parts", number_lines=True)
        assert [document.doc_id for document in numbered] == ["1", "2"]

    def test_a_column_that_is_missing_is_told_before_any_row_is_read(self, tmp_path):
        pq.write_table(pa.table({"id": [1], "words": ["x"]}), tmp_path / "a.parquet")
        told = r"a\.parquet: no column for the text; available: 'id', 'words'.*--text-column"
        with pytest.raises(InputError, match=told):
            detect(str(tmp_path / "a.parquet"))
        assert documents(tmp_path / "a.parquet", text_column="words") == [Document("1", "", "x")]

    def test_another_file_of_that_name_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"a\.parquet: not a Parquet file"):
            detect(str(write(tmp_path / "a.parquet", "id,text")))

    def test_queries_and_judgments_too(self, tmp_path):
        pq.write_table(pa.table({"query_id": ["q"], "text": ["who?"]}), tmp_path / "q.parquet")
        pq.write_table(pa.table({"query_id": ["q"], "doc_id": ["1"]}), tmp_path / "r.parquet")
        [query] = read_queries(tmp_path / "q.parquet", SourceOptions())
        [qrel] = read_qrels(tmp_path / "r.parquet", "test")
        assert (query.text, qrel.doc_id, qrel.relevance) == ("who?", "1", 1)


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "notes.db"
    with sqlite3.connect(path) as open_one:
        open_one.execute('create table "my notes" (id integer, title text, text text)')
        open_one.executemany('insert into "my notes" values (:id, :title, :text)', RECORDS)
    open_one.close()
    return path


class TestSqlite:
    def test_the_only_table_is_read(self, database):
        assert documents(database) == EXPECTED

    def test_one_of_several_is_named(self, database):
        with sqlite3.connect(database) as open_one:
            open_one.execute('create view second as select * from "my notes" where id = 2')
        with pytest.raises(InputError, match=r"2 tables; available: my notes, second.*--table"):
            detect(str(database))
        with pytest.raises(InputError, match="no table 'third'"):
            detect(str(database), SourceOptions(table="third"))
        assert documents(database, table="second") == EXPECTED[1:]

    def test_one_that_another_process_writes_to_is_told(self, database, monkeypatch):
        monkeypatch.setattr(sqlite_source, "WAIT", 0.01)
        writer = sqlite3.connect(database, isolation_level=None)
        writer.execute("begin exclusive")
        with pytest.raises(InputError, match=r"notes\.db: another process is writing to it. Wait"):
            documents(database)
        writer.execute("rollback")
        writer.close()
        assert documents(database) == EXPECTED

    def test_what_is_written_while_it_is_read_is_not_seen(self, database):
        writer = sqlite3.connect(database, isolation_level=None)
        writer.execute("pragma journal_mode = wal")
        rows = iter(detect(str(database)).documents())
        first = next(rows)
        writer.execute("insert into \"my notes\" values (3, 'New', 'while it was read')")
        assert [first, *rows] == EXPECTED
        assert len(documents(database)) == 3
        writer.close()

    def test_a_damaged_one_is_told(self, database):
        content = bytearray(database.read_bytes())
        content[100:4096] = b"\xff" * 3996
        database.write_bytes(content)
        with pytest.raises(
            InputError, match=r"notes\.db: (the SQLite database is damaged|SQLite reports)"
        ):
            documents(database)


def test_a_dataset_of_save_to_disk_is_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(RECORDS).save_to_disk(tmp_path / "saved")
    assert documents(tmp_path / "saved") == EXPECTED


MARKDOWN = """---
title: Front
---
Before any heading, a [link](https://u.org/long/address) and `code`.

# Otters & co

They *swim*.

```
# no heading
```

## How

Fast. <b>Very</b>

## How

Again.

## Empty
"""
HTML = """<!doctype html><html><head><title>Site | Page</title><style>p {}</style></head><body>
<script>var x = "<h1>no</h1>";</script><h1>Otters <em>swim</em></h1><p>One &amp; two</p>
<ul><li>three</li><li>four</li></ul><h2 id="more">More</h2><pre>a
  b</pre></body></html>"""


class TestFoldersOfText:
    @pytest.fixture
    def folder(self, tmp_path):
        write(tmp_path / "f/a.txt", "Plain words.\n")
        write(tmp_path / "f/sub/b.md", MARKDOWN)
        write(tmp_path / "f/sub/c.HTML", HTML)
        return tmp_path / "f"

    def test_a_document_a_file(self, folder):
        found = {document.doc_id: document for document in documents(folder)}
        assert list(found) == ["a.txt", "sub/b.md", "sub/c.HTML"]
        assert found["a.txt"] == Document("a.txt", "a", "Plain words.")
        assert found["sub/b.md"].title == "Front"
        text = found["sub/b.md"].text
        assert "a link and code." in text
        assert "u.org" not in text
        assert "Otters & co\n\nThey swim.\n\n# no heading" in text
        assert found["sub/c.HTML"] == Document(
            "sub/c.HTML", "Otters swim", "One & two\n\nthree\n\nfour\n\nMore\n\na\n  b"
        )

    def test_a_document_a_heading(self, folder):
        source = detect(str(folder), SourceOptions(split="headings"))
        assert [(each.doc_id, each.title) for each in source.documents()] == [
            ("a.txt", "a"),
            ("sub/b.md", "Front"),
            ("sub/b.md#otters--co", "Front: Otters & co"),
            ("sub/b.md#how", "Front: How"),
            ("sub/b.md#how-1", "Front: How"),
            ("sub/c.HTML#otters-swim", "Otters swim"),
            ("sub/c.HTML#more", "Otters swim: More"),
        ]
        assert source.passed_over["heading without text"].examples == ["sub/b.md#empty"]

    def test_the_title_is_the_first_heading_or_the_name(self, tmp_path):
        write(tmp_path / "One.Two.md", "text\n\nLater\n=====\n\nmore")
        write(tmp_path / "Bare.md.gz", "").write_bytes(gzip.compress(b"nothing but text"))
        assert [document.title for document in documents(tmp_path)] == ["Bare", "Later"]
        assert documents(tmp_path / "One.Two.md")[0].doc_id == "One.Two.md"

    def test_what_is_passed_over_is_counted_and_told(self, folder, tmp_path):
        write(tmp_path / "outside/secret.txt", "not to be read")
        (folder / "link").symlink_to(tmp_path / "outside")
        (folder / "link.txt").symlink_to(tmp_path / "outside/secret.txt")
        write(folder / ".git/notes.md", "# hidden")
        write(folder / "photo.png", "x")
        (folder / "binary.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff")
        write(folder / "empty.txt", "")
        dataset = write_dataset(tmp_path / "ds", detect(str(folder)))
        # A file without words still has a title: its name.
        assert dataset.doc_ids == ["a.txt", "empty.txt", "sub/b.md", "sub/c.HTML"]
        assert {name: counter.examples for name, counter in dataset.info.dropped.items()} == {
            "symbolic link, which is not followed": ["link/", "link.txt"],
            "hidden file or folder": [".git/"],
            "file that is not text, Markdown or HTML": ["photo.png"],
            "file with the suffix of a text file but binary content": ["binary.txt"],
        }

    def test_names_that_differ_in_case_are_two_documents_and_noted(self, tmp_path):
        write(tmp_path / "f/Read.md", "# One")
        write(tmp_path / "f/read.md", "# Two")
        dataset = write_dataset(tmp_path / "ds", detect(str(tmp_path / "f")))
        assert dataset.doc_ids == ["Read.md", "read.md"]
        [(remark, counter)] = dataset.info.noted.items()
        assert "differs from another only in case" in remark
        assert counter.examples == ["Read.md", "read.md"]

    def test_a_folder_without_text_says_what_it_holds(self, tmp_path):
        (tmp_path / "f").mkdir()
        with pytest.raises(InputError, match=r"f: this folder is empty. Give a folder"):
            detect(str(tmp_path / "f"))
        write(tmp_path / "f/a.pdf", "x")
        write(tmp_path / "f/b.pdf", "x")
        with pytest.raises(
            InputError, match=r"no text files in this folder; it contains: 2 x \.pdf"
        ):
            detect(str(tmp_path / "f"))

    def test_another_encoding_has_to_be_named(self, tmp_path):
        (tmp_path / "a.txt").write_bytes("caf\xe9".encode("latin-1"))
        with pytest.raises(InputError, match=r"a\.txt:1: not utf-8 .*--encoding"):
            documents(tmp_path)
        assert documents(tmp_path, encoding="latin-1")[0].text == "café"

    def test_a_name_that_is_no_utf_8_is_told(self, tmp_path):
        with open(os.fsencode(tmp_path) + b"/caf\xe9.txt", "wb") as file:
            file.write(b"x")
        with pytest.raises(InputError, match=r"caf\\xe9\.txt: the name of this file is not UTF-8"):
            detect(str(tmp_path))


def test_a_parquet_column_that_is_there_twice_is_refused(tmp_path):
    arrays = [pa.array(["1"]), pa.array(["kept"]), pa.array(["lost"])]
    pq.write_table(pa.table(arrays, names=["id", "text", "text"]), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="the column 'text' appears twice"):
        documents(tmp_path / "a.parquet")


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3"])
def test_a_file_with_the_name_of_a_database_is_one_or_refused(tmp_path, content):
    (tmp_path / "a.db").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.db: not an SQLite database") as told:
        detect(str(tmp_path / "a.db"))
    assert "\n" not in str(told.value)


def test_a_folder_with_the_name_of_a_home_folder_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("~").mkdir()
    table = pa.table({"id": ["d1"], "text": ["a text"]})
    pq.write_table(table, tmp_path / "~" / "docs.parquet")
    for source in ("~/docs.parquet", "~/saved"):
        if source == "~/saved":
            datasets.Dataset(table).save_to_disk(tmp_path / "~" / "saved")
        written = write_dataset("~/ds", detect(source, SourceOptions()))
        assert list(written.documents()) == [Document("d1", "", "a text")]
        assert written.corpus["doc_id"][:] == ["d1"]
    assert sorted(os.listdir("~")) == ["docs.parquet", "ds", "saved"]
    assert not (tmp_path / "home").exists()


def test_a_parquet_value_that_python_cannot_hold_is_named(tmp_path):
    columns = {"query_id": ["1"], "text": ["a"], "day": pa.array([10**9], pa.date32())}
    pq.write_table(pa.table(columns), tmp_path / "q.parquet")
    with pytest.raises(InputError, match=r"q\.parquet, after row 0: a value cannot be read"):
        list(read_queries(tmp_path / "q.parquet", SourceOptions()))
