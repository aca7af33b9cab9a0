"""Every common format becomes documents, queries and judgments, or one clear error."""

import gzip
import json
import sys
import types
from typing import NamedTuple

import pytest

from data_prep.dataset import Document, Qrel, Query
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from data_prep.evidence import judged_examples
from data_prep.sources import SOURCES, SourceOptions, detect
from data_prep.sources.ir_datasets import split_of
from data_prep.sources.judged import read_qrels, read_queries


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def jsonl(path, *records):
    return write(path, *(json.dumps(record) for record in records))


@pytest.fixture
def beir(tmp_path):
    folder = tmp_path / "zoo"
    jsonl(
        folder / "corpus.jsonl",
        {"_id": "d1", "title": "Otters", "text": "Otters swim.", "metadata": {}},
        {"_id": "d2", "text": "Pikas whistle."},
    )
    jsonl(folder / "queries.jsonl", {"_id": "q1", "text": "who swims?"})
    write(folder / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore", "q1\td1\t1")
    write(folder / "qrels" / "validation.tsv", "query-id\tcorpus-id\tscore", "q1\td2\t2")
    return folder


class TestBeir:
    def test_a_folder_with_a_corpus_is_read(self, beir):
        source = detect(str(beir))
        assert source.name == "zoo"
        assert list(source.documents()) == [
            Document("d1", "Otters", "Otters swim."),
            Document("d2", "", "Pikas whistle."),
        ]
        assert list(source.queries()) == [Query("q1", "who swims?")]
        assert list(source.qrels()) == [Qrel("q1", "d2", 2, "dev"), Qrel("q1", "d1", 1, "test")]

    def test_files_that_are_not_read_are_counted(self, beir):
        for name in ("qrels/test2.tsv", "qrels/train.jsonl", "corpus-2.jsonl", "qrels.tsv"):
            (beir / name).write_text("")
        source = detect(str(beir))
        list(source.documents())
        [(reason, files)] = source.passed_over.items()
        assert "not corpus.jsonl" in reason
        assert files.examples == [
            "corpus-2.jsonl",
            "qrels.tsv",
            "qrels/test2.tsv",
            "qrels/train.jsonl",
        ]

    def test_judgments_of_hotpotqa_and_fever_are_chains_in_the_order_of_the_file(self, tmp_path):
        folder = tmp_path / "hotpotqa"
        documents = {
            "12": ("Ed Wood (film)", "A film about a director. It was made by Tim Burton."),
            "7": ("Tim Burton", "An American artist. He was born in Burbank."),
            "301": ("Burbank", "A city. It lies north of Hollywood."),
        }
        jsonl(
            folder / "corpus.jsonl",
            *(
                {"_id": one, "title": title, "text": text, "metadata": {"url": "x"}}
                for one, (title, text) in documents.items()
            ),
        )
        facts = {"answer": "Burbank", "supporting_facts": [["Ed Wood (film)", 1], ["Burbank", 0]]}
        question = "Who made the film about a director?"
        jsonl(
            folder / "queries.jsonl",
            {"_id": "5a", "text": question, "metadata": facts},
            {"_id": "75397", "text": "Burbank is a city.", "metadata": {}},
        )
        header = "query-id\tcorpus-id\tscore"
        write(folder / "qrels" / "train.tsv", header, "5a\t12\t1", "5a\t7\t1", "5a\t301\t1")
        write(folder / "qrels" / "test.tsv", header, "75397\t301\t1", "75397\t7\t0")
        dataset = write_dataset(tmp_path / "ds", detect(str(folder)))
        assert list(dataset.qrels_of("train")["5a"]) == ["12", "7", "301"]
        made, born = "It was made by Tim Burton.", "He was born in Burbank."
        assert judged_examples(dataset, "train", "ordered", 64) == [
            (question, "12"),
            (f"{question} {made}", "7"),
            (f"{question} {born} {made}", "301"),
        ]
        assert judged_examples(dataset, "test", "ordered", 64) == [("Burbank is a city.", "301")]

    def test_an_option_that_means_nothing_is_refused(self, beir):
        with pytest.raises(InputError, match="--id_column x has no effect for a BEIR folder"):
            detect(str(beir), SourceOptions(id_column="x"))

    def test_a_broken_line_is_named(self, beir):
        with (beir / "corpus.jsonl").open("a") as file:
            file.write('{"_id": "d3", \n')
        with pytest.raises(InputError, match=r"corpus\.jsonl:3: not JSON"):
            list(detect(str(beir)).documents())


class TestTable:
    def test_jsonl_csv_and_tsv_say_the_same(self, tmp_path):
        expected = [Document("1", "Otters", 'They "swim", fast'), Document("2", "Pikas", "")]
        files = [
            jsonl(
                tmp_path / "a.jsonl",
                {"id": 1, "title": "Otters", "text": 'They "swim", fast'},
                {"id": 2, "title": "Pikas", "text": None},
            ),
            write(
                tmp_path / "a.csv", "id,title,text", '1,Otters,"They ""swim"", fast"', "2,Pikas,"
            ),
            write(
                tmp_path / "a.tsv", "id\ttitle\ttext", '1\tOtters\tThey "swim", fast', "2\tPikas\t"
            ),
        ]
        for file in files:
            assert list(detect(str(file)).documents()) == expected

    def test_columns_can_be_named(self, tmp_path):
        file = write(tmp_path / "a.csv", "key,head,body,more", "k,h,b,m")
        options = SourceOptions(id_column="key", title_column="head", text_column="more")
        assert list(detect(str(file), options).documents()) == [Document("k", "h", "m")]

    def test_urls_come_from_their_column(self, tmp_path):
        usual = jsonl(
            tmp_path / "a.jsonl",
            {"id": "1", "text": "x", "url": "https://u.org/a"},
            {"id": "2", "text": "y", "url": None},
        )
        expected = [Document("1", "", "x", "https://u.org/a"), Document("2", "", "y")]
        assert list(detect(str(usual)).documents()) == expected
        for name, tab in (("a.csv", ","), ("a.tsv", "\t")):
            file = write(tmp_path / name, tab.join(["id", "text", "page"]), tab.join("1xv"))
            named = SourceOptions(url_column="page")
            assert list(detect(str(file), named).documents()) == [Document("1", "", "x", "v")]
            assert list(detect(str(file)).documents()) == [Document("1", "", "x")]

    @pytest.mark.parametrize("column", ["id_column", "title_column", "text_column", "url_column"])
    def test_a_missing_column_lists_those_there_are(self, tmp_path, column):
        file = write(tmp_path / "a.csv", "id,text", "1,b")
        with pytest.raises(InputError, match=r"no column 'nope'; available: 'id', 'text'"):
            list(detect(str(file), SourceOptions(**{column: "nope"})).documents())

    def test_a_first_line_that_names_no_columns_is_told_shortly(self, tmp_path):
        file = write(tmp_path / "a.tsv", f"7\t{'long ' * 99}", "8\tb")
        with pytest.raises(
            InputError, match=r"--id-column .*, or all columns with --header"
        ) as told:
            list(detect(str(file)).documents())
        assert len(str(told.value)) < 400
        with pytest.raises(InputError, match=r"with --id-column[^,]*$"):
            list(detect(str(jsonl(tmp_path / "a.jsonl", {"number": "1"}))).documents())

    def test_ids_are_line_numbers_only_when_asked_for(self, tmp_path):
        file = write(tmp_path / "a.tsv", "text", "one", "", "two")
        with pytest.raises(InputError, match="--number-lines"):
            list(detect(str(file)).documents())
        numbered = detect(str(file), SourceOptions(number_lines=True)).documents()
        assert list(numbered) == [Document("2", "", "one"), Document("4", "", "two")]

    def test_a_file_without_header_line(self, tmp_path):
        file = write(tmp_path / "collection.tsv", "0\tfirst passage", "1\tsecond passage")
        documents = detect(str(file), SourceOptions(header=("id", "text"))).documents()
        assert list(documents) == [
            Document("0", "", "first passage"),
            Document("1", "", "second passage"),
        ]

    def test_quoted_csv_fields_may_hold_lines_and_be_long(self, tmp_path):
        long = "word " * 50_000
        file = write(tmp_path / "a.csv", "id,text", f'1,"two\nlines {long}"')
        assert next(iter(detect(str(file)).documents())).text == f"two\nlines {long}"

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            (b'{"id": "1", "text": "caf\xe9"}', r"a\.jsonl:2: not utf-8 .*--encoding"),
            (b'["a"]', r"a\.jsonl:2: not a JSON object"),
            (b'{"id": true, "text": "x"}', r"a\.jsonl:2: the id in column 'id' is True"),
            (b'{"text": "x"}', r"a\.jsonl:2: the id in column 'id' is missing"),
            (b'{"id": "2", "text": ["x"]}', r"a\.jsonl:2: column 'text' holds \['x'\]"),
        ],
    )
    def test_a_broken_line_is_named(self, tmp_path, line, message):
        (tmp_path / "a.jsonl").write_bytes(b'{"id": "0", "text": "fine"}\n' + line + b"\n")
        with pytest.raises(InputError, match=message):
            list(detect(str(tmp_path / "a.jsonl")).documents())

    def test_a_row_of_another_width_is_named(self, tmp_path):
        file = write(tmp_path / "a.csv", "id,text", "1,b", "2,b,c")
        with pytest.raises(InputError, match=r"a\.csv:3: 3 fields, but the header has 2"):
            list(detect(str(file)).documents())

    def test_a_query_without_a_tab_is_shown_with_what_it_needs(self, tmp_path):
        file = write(tmp_path / "queries.tsv", "q1\twho swims?", "", "who whistles?")
        message = (
            r"queries\.tsv:3: 1 field, but each line needs 2 \(query_id, text\): "
            r"\['who whistles\?'\]"
        )
        with pytest.raises(InputError, match=message):
            list(read_queries(file, SourceOptions()))

    def test_other_encodings_byte_order_marks_and_gzip(self, tmp_path):
        (tmp_path / "a.csv").write_bytes("id,text\n1,café\n".encode("latin-1"))
        (tmp_path / "b.csv").write_bytes("id,text\n1,café\n".encode("utf-8-sig"))
        (tmp_path / "c.csv.gz").write_bytes(gzip.compress("id,text\n1,café\n".encode()))
        for name, encoding in [("a.csv", "latin-1"), ("b.csv", "utf-8"), ("c.csv.gz", "utf-8")]:
            source = detect(str(tmp_path / name), SourceOptions(encoding=encoding))
            assert list(source.documents()) == [Document("1", "", "café")]

    def test_queries_and_judgments_come_from_files_of_their_own(self, tmp_path):
        options = SourceOptions(
            queries=str(write(tmp_path / "q.csv", "qid,question", "q1,who?")),
            train_qrels=str(write(tmp_path / "train.txt", "q1 0 1 1")),
            test_qrels=str(jsonl(tmp_path / "t.jsonl", {"query_id": "q1", "doc_id": "1"})),
        )
        source = detect(str(write(tmp_path / "a.csv", "id,text", "1,b")), options)
        assert list(source.queries()) == [Query("q1", "who?")]
        assert list(source.qrels()) == [Qrel("q1", "1", 1, "train"), Qrel("q1", "1", 1, "test")]

    def test_judgments_without_queries_are_refused(self, tmp_path):
        file = write(tmp_path / "a.csv", "id,text", "1,b")
        with pytest.raises(InputError, match="--queries"):
            detect(str(file), SourceOptions(test_qrels="x"))

    def test_files_of_queries_are_looked_for_before_documents_are_read(self, tmp_path):
        file = str(write(tmp_path / "a.csv", "id,text", "1,b"))
        for options in (
            SourceOptions(queries="missing"),
            SourceOptions(queries=file, dev_qrels="missing"),
        ):
            with pytest.raises(InputError, match=r"^missing: no such file"):
                detect(file, options)


class TestTrec:
    DOCS = """<DOC>
<DOCNO> FT911-1 </DOCNO>
<HEADLINE> Otters &amp;
 friends </HEADLINE>
<TEXT>
Otters <b>swim</b>.
</TEXT>
<TEXT>And dive.</TEXT>
</DOC>
<DOC><DOCNO>FT911-2</DOCNO><DOCID>9</DOCID>Pikas whistle.</DOC>
"""

    def test_documents(self, tmp_path):
        file = write(tmp_path / "docs.trec", self.DOCS)
        expected = [
            Document("FT911-1", "Otters & friends", "Otters  swim .\n\nAnd dive."),
            Document("FT911-2", "", "Pikas whistle."),
        ]
        assert list(detect(str(file)).documents()) == expected
        assert list(detect(f"trec:{tmp_path}").documents()) == expected

    def test_other_files_of_a_folder_are_skipped_in_any_encoding(self, tmp_path):
        write(tmp_path / "a.trec", self.DOCS)
        (tmp_path / "b").write_text("<doc><docno>wide</docno>Moles dig.</doc>", "utf-16")
        (tmp_path / "late").write_text("-" * (2**16 - 2) + "\n<DOC><DOCNO>1</DOCNO>x</DOC>")
        (tmp_path / "README").write_bytes(b"R\xe9sum\xe9 of 1991")
        (tmp_path / "picture").write_bytes(bytes(range(256)))
        source = detect(f"trec:{tmp_path}")
        assert [one.doc_id for one in source.documents()] == ["FT911-1", "FT911-2", "wide", "1"]
        [(reason, names)] = source.passed_over.items()
        assert (reason, names.count) == ("file without <DOC>", 2)
        with pytest.raises(InputError):  # named itself, a file is read
            list(detect(f"trec:{tmp_path / 'README'}").documents())

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("<DOC>\nno number\n</DOC>", r"docs\.trec:1: a <DOC> has no <DOCNO>"),
            ("\n<DOC>\n<DOCNO>1</DOCNO>", r"docs\.trec:2: <DOC> has no matching </DOC>"),
            ("<DOC>\n<DOC>", r"docs\.trec:2: a <DOC> inside"),
        ],
    )
    def test_broken_markup_is_named(self, tmp_path, text, message):
        with pytest.raises(InputError, match=message):
            list(detect(str(write(tmp_path / "docs.trec", text))).documents())

    @pytest.mark.parametrize(
        "topics",
        [
            "<top>\n<num> Number: 301\n<title> otter\nswimming\n<desc> Description:\nWhat?\n</top>",
            "<top><num>301</num><title>otter swimming</title><desc>What?</desc></top>",
        ],
    )
    def test_topics(self, tmp_path, topics):
        file = write(tmp_path / "topics.txt", topics)
        assert list(read_queries(file, SourceOptions())) == [Query("301", "otter swimming")]
        described = read_queries(file, SourceOptions(topic_field="desc"))
        assert [query.text for query in described] == ["What?"]
        with pytest.raises(InputError, match="no field 'narr'; available: num, title, desc"):
            list(read_queries(file, SourceOptions(topic_field="narr")))

    def test_topics_as_tsv_with_and_without_header(self, tmp_path):
        bare = write(tmp_path / "bare.tsv", "301\totter swimming")
        headed = write(tmp_path / "headed.tsv", "qid\tquery", "301\totter swimming")
        for file in (bare, headed):
            assert list(read_queries(file, SourceOptions())) == [Query("301", "otter swimming")]

    def test_a_file_of_neither_form_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="neither TREC topics"):
            list(read_queries(write(tmp_path / "q.txt", "just words"), SourceOptions()))


@pytest.mark.parametrize(
    "lines",
    [
        ["301 0 d1 2"],
        ["301\t0\td1\t2"],
        ["301\td1\t2"],
        ["query-id\tcorpus-id\tscore", "301\td1\t2"],
    ],
)
def test_qrels_in_every_form(tmp_path, lines):
    file = write(tmp_path / "qrels.tsv", *lines)
    assert list(read_qrels(file, "dev")) == [Qrel("301", "d1", 2, "dev")]


@pytest.mark.parametrize(
    ("line", "message"),
    [("301 0 d1 x", r"qrels:2: the relevance 'x'"), ("301 d1", r"qrels:2: 2 fields")],
)
def test_a_broken_judgment_is_named(tmp_path, line, message):
    with pytest.raises(InputError, match=message):
        list(read_qrels(write(tmp_path / "qrels", "301 0 d0 1", line), "test"))


class TestHuggingFace:
    def test_a_local_table_is_read_as_a_stream(self, tmp_path):
        jsonl(tmp_path / "set" / "data.jsonl", {"id": "a", "title": "t", "text": "x"})
        source = detect(f"hf:{tmp_path / 'set'}")
        assert list(source.documents()) == [Document("a", "t", "x")]
        options = SourceOptions(documents_split="test")
        with pytest.raises(InputError, match=r"no split 'test'; available: train"):
            list(detect(f"hf:{tmp_path / 'set'}", options).documents())

    def test_the_retrieval_layout_brings_queries_and_judgments(self, tmp_path):
        jsonl(tmp_path / "c.jsonl", {"_id": "d", "title": "t", "text": "x"})
        jsonl(tmp_path / "q.jsonl", {"_id": "q", "text": "who?"})
        jsonl(tmp_path / "r.jsonl", {"query-id": "q", "corpus-id": "d", "score": 1})
        write(
            tmp_path / "README.md",
            "---",
            "configs:",
            *("- config_name: corpus", "  data_files: [{split: corpus, path: c.jsonl}]"),
            *("- config_name: queries", "  data_files: [{split: queries, path: q.jsonl}]"),
            *("- config_name: default", "  data_files: [{split: test, path: r.jsonl}]"),
            "---",
        )
        source = detect(f"hf:{tmp_path}")
        assert list(source.documents()) == [Document("d", "t", "x")]
        assert list(source.queries()) == [Query("q", "who?")]
        assert list(source.qrels()) == [Qrel("q", "d", 1, "test")]

    def test_a_relevance_of_another_name_is_not_taken_for_one(self, tmp_path):
        jsonl(tmp_path / "c.jsonl", {"_id": "d", "text": "x"})
        jsonl(tmp_path / "q.jsonl", {"_id": "q", "text": "who?"})
        jsonl(tmp_path / "r.jsonl", {"query-id": "q", "corpus-id": "d", "rating": 0})
        write(
            tmp_path / "README.md",
            "---",
            "configs:",
            *("- config_name: corpus", "  data_files: [{split: corpus, path: c.jsonl}]"),
            *("- config_name: queries", "  data_files: [{split: queries, path: q.jsonl}]"),
            *("- config_name: default", "  data_files: [{split: test, path: r.jsonl}]"),
            "---",
        )
        with pytest.raises(InputError, match="test:1: the column 'rating' may contain the relev"):
            list(detect(f"hf:{tmp_path}").qrels())
        named = SourceOptions(qrels_relevance_column="rating")
        assert list(detect(f"hf:{tmp_path}", named).qrels()) == [Qrel("q", "d", 0, "test")]

    def test_all_splits_of_the_retrieval_layout_are_read(self, tmp_path):
        jsonl(tmp_path / "c1.jsonl", {"_id": "d1", "text": "x"})
        jsonl(tmp_path / "c2.jsonl", {"_id": "d2", "text": "y"})
        jsonl(tmp_path / "q.jsonl", {"_id": "q", "text": "who?"})
        write(
            tmp_path / "README.md",
            "---",
            "configs:",
            "- config_name: corpus",
            "  data_files: [{split: train, path: c1.jsonl}, {split: test, path: c2.jsonl}]",
            *("- config_name: queries", "  data_files: [{split: queries, path: q.jsonl}]"),
            "---",
        )
        read = detect(f"hf:{tmp_path}").documents()
        assert [document.doc_id for document in read] == ["d1", "d2"]
        with pytest.raises(InputError, match="--documents_split train has no effect for a dataset"):
            detect(f"hf:{tmp_path}", SourceOptions(documents_split="train"))

    def test_of_several_splits_one_is_to_be_named(self, tmp_path):
        import datasets

        part = datasets.Dataset.from_dict({"id": ["a"], "text": ["x"]})
        saved = str(tmp_path / "s")
        datasets.DatasetDict({"train": part, "test": part}).save_to_disk(saved)
        with pytest.raises(InputError, match="several splits; available: train, test"):
            list(detect(saved).documents())
        named = SourceOptions(documents_split="test")
        assert list(detect(saved, named).documents()) == [Document("a", "", "x")]

    def test_a_saved_dataset_needs_no_prefix(self, tmp_path):
        import datasets

        datasets.Dataset.from_dict({"id": ["a"], "text": ["x"]}).save_to_disk(str(tmp_path / "s"))
        assert list(detect(str(tmp_path / "s")).documents()) == [Document("a", "", "x")]

    def test_what_cannot_be_loaded_is_one_line(self, tmp_path):
        with pytest.raises(InputError, match=r"hf:.*nowhere: datasets cannot load it"):
            detect(f"hf:{tmp_path / 'nowhere'}")

    def test_a_damaged_file_after_the_first_is_told_in_one_line(self, tmp_path):
        write(tmp_path / "a.jsonl", '{"id": "1", "text": "otter"}')
        write(tmp_path / "b.jsonl", '{"id": "2", "text"')
        with pytest.raises(InputError, match=r"^hf:.*: datasets cannot load it \("):
            list(detect(f"hf:{tmp_path}").documents())


class FakeDoc(NamedTuple):
    doc_id: str
    title: str
    text: str


class FakeUntitled(NamedTuple):
    doc_id: str
    body: str

    def default_text(self):
        return self.body


class FakeQuery(NamedTuple):
    query_id: str
    text: str

    def default_text(self):
        return self.text


class FakeQrel(NamedTuple):
    query_id: str
    doc_id: str
    relevance: int


def everything(argument: str) -> None:
    source = detect(argument)
    list(source.documents())
    list(source.queries())
    list(source.qrels())


class FakePart:
    def __init__(self, docs=(), queries=(), qrels=()):
        self.docs, self.queries, self.judged = docs, queries, qrels

    def has_docs(self):
        return bool(self.docs)

    def has_queries(self):
        return bool(self.queries)

    def has_qrels(self):
        return bool(self.judged)

    def docs_handler(self):
        return self.docs

    def docs_iter(self):
        return iter(self.docs)

    def queries_iter(self):
        return iter(self.queries)

    def qrels_iter(self):
        return iter(self.judged)


class TestIrDatasets:
    @pytest.fixture
    def library(self, monkeypatch):
        docs = [FakeDoc("d1", "Otters", "swim"), FakeUntitled("d2", "whistle")]
        parts = {
            "zoo/train": FakePart(docs, [FakeQuery("1", "a")], [FakeQrel("1", "d1", 1)]),
            "zoo/test": FakePart(docs, [FakeQuery("2", "b")], [FakeQrel("2", "d2", 2)]),
            "farm": FakePart(docs[:1]),
            "bare": FakePart(),
        }
        module = types.ModuleType("ir_datasets")
        module.load = parts.__getitem__  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "ir_datasets", module)

    @pytest.mark.usefixtures("library")
    def test_ids_give_splits_over_one_corpus(self):
        source = detect("ir_datasets:zoo/train,zoo/test")
        expected = [Document("d1", "Otters", "swim"), Document("d2", "", "whistle")]
        assert list(source.documents()) == expected
        assert list(source.queries()) == [Query("1", "a"), Query("2", "b")]
        assert list(source.qrels()) == [Qrel("1", "d1", 1, "train"), Qrel("2", "d2", 2, "test")]

    @pytest.mark.usefixtures("library")
    def test_unknown_or_empty_ids_are_refused(self):
        with pytest.raises(InputError, match="no dataset 'nope'"):
            detect("ir_datasets:nope")
        with pytest.raises(InputError, match="no documents"):
            detect("ir_datasets:bare")

    @pytest.mark.usefixtures("library")
    def test_ids_of_other_documents_are_refused_for_only_the_first_are_read(self):
        with pytest.raises(InputError, match="farm and zoo/train have different documents"):
            detect("ir_datasets:zoo/train,zoo/test,farm")
        assert list(detect("ir_datasets:zoo/train,bare").queries()) == [Query("1", "a")]

    @pytest.mark.usefixtures("library")
    @pytest.mark.parametrize("part", ["has_docs", "docs_iter", "queries_iter", "qrels_iter"])
    def test_what_the_library_says_is_told_in_one_line(self, monkeypatch, part):
        def offline(self):
            raise RuntimeError("All download sources failed\nand more lines")

        monkeypatch.setattr(FakePart, part, offline)
        told = r"^ir_datasets:zoo/train: ir_datasets cannot .*\(All download sources failed\)"
        with pytest.raises(InputError, match=told):
            everything("ir_datasets:zoo/train")

    def test_the_missing_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "ir_datasets", None)
        with pytest.raises(InputError, match=r"pip install 'dsi-toolkit\[ir-datasets\]'"):
            detect("ir_datasets:vaswani")

    @pytest.mark.parametrize(
        ("dataset_id", "split"),
        [
            ("beir/scifact/train", "train"),
            ("msmarco-passage/dev/small", "dev"),
            ("natural-questions/validation", "dev"),
            ("vaswani", "test"),
        ],
    )
    def test_the_id_says_the_split(self, dataset_id, split):
        assert split_of(dataset_id) == split


def test_what_no_source_takes_lists_the_forms_in_a_line_each(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.jsonl: no such file or folder") as told:
        detect(str(tmp_path / "nowhere.jsonl"))
    first, *forms = str(told.value).splitlines()
    assert first.endswith("Give one of:")
    assert sorted(form.strip() for form in forms) == sorted(SOURCES[n].form for n in SOURCES)
    assert "folder of text files" in forms[0]
    assert any("BEIR" in form for form in forms)
    with pytest.raises(InputError, match="cannot tell the format of this"):
        detect(str(write(tmp_path / "a.pdf", "x")))


def test_every_source_says_how_it_is_named():
    assert {"beir", "table", "trec", "ir_datasets", "huggingface"} <= set(SOURCES)
    prefixes = [SOURCES[name].prefix for name in SOURCES]
    assert len(set(prefixes)) == len(prefixes)
