"""TREC tags are found wherever they are allowed, and other angle brackets stay text."""

from pathlib import Path

import pytest

from data_prep.dataset import Query
from data_prep.errors import InputError
from data_prep.sources import SourceOptions, detect
from data_prep.sources.judged import read_queries
from data_prep.sources.markup import plain


@pytest.mark.parametrize(
    "text",
    [
        "<DOC>\n<DOCNO>1</DOCNO>\n<TEXT>a</TEXT>\n</DOC><DOC>\n<DOCNO>2</DOCNO><TEXT>b</TEXT></DOC>",
        "<DOC><DOCNO>1</DOCNO><TEXT>a</TEXT></DOC><DOC><DOCNO>2</DOCNO><TEXT>b</TEXT></DOC>",
        '<DOC>\n<DOCNO>1</DOCNO>a</DOC>\n<DOC type="story">\n<DOCNO>2</DOCNO>b</DOC>',
        "<ROOT><doc>\n<docno>1</docno>a\n</doc >\n<DOC\n id='2'>\n<DOCNO>2</DOCNO>b</DOC\n></ROOT>",
        "<DOC><DOCNO>1</DOCNO><TEXT>a\n</DOC>\n<DOC><DOCNO n='1'>2</DOCNO><TEXT>b</DOC>",
        "<DOC>\r<DOCNO>1</DOCNO>\r<TEXT>a</TEXT>\r</DOC>\r<DOC><DOCNO>2</DOCNO>b</DOC>\r",
    ],
)
def test_every_document_is_read(tmp_path, text):
    (tmp_path / "d.trec").write_bytes(text.encode())
    documents = list(detect(str(tmp_path / "d.trec")).documents())
    assert [(document.doc_id, document.text) for document in documents] == [("1", "a"), ("2", "b")]


@pytest.mark.parametrize(
    "markup",
    [
        "<TITLE>One thing</TITLE><TEXT>body</TEXT>",
        "<title>One thing</TITLE >\n<TEXT>body</TEXT>",
        "<TITLE>One thing<TEXT>body</TEXT>",
        "<HEADLINE>\nOne thing\n<TEXT>body</TEXT>",
        "<TITLE lang=en>One\nthing</TITLE>\nbody",
        "<TITLE>One thing\nbody",
    ],
)
def test_a_title_may_have_no_end(tmp_path, markup):
    (tmp_path / "d.trec").write_text(f"<DOC><DOCNO>1</DOCNO>\n{markup}\n</DOC>")
    [document] = detect(str(tmp_path / "d.trec")).documents()
    assert (document.title, document.text) == ("One thing", "body")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<DOC><DOCNO>1<TEXT>a</TEXT></DOC>", "d.trec:1: a <DOC> has no <DOCNO> ... </DOCNO>"),
        ("<DOC><DOCNO>1</DOCNO>\n<DOCNO>2</DOCNO></DOC>", "d.trec:2: a second <DOCNO>"),
        ("<DOCNO>1</DOCNO>\n<TEXT>a</TEXT>", "d.trec:1: <DOCNO> is outside a <DOC>"),
        ("<DOC><DOCNO>1</DOCNO></DOC>\n</DOC>", "d.trec:2: </DOC> has no matching <DOC>"),
        ("<DOC><DOCNO>1</DOCNO></DOC><DOC", "d.trec:1: a tag has no closing >"),
    ],
)
def test_missing_marks_are_named(tmp_path, text, message):
    (tmp_path / "d.trec").write_text(text)
    with pytest.raises(InputError, match=message):
        list(detect(str(tmp_path / "d.trec")).documents())


def test_the_title_of_a_web_page_is_not_its_head(tmp_path):
    page = "<html><head><title>Otters</title><script>var a;</script></head><body>They swim.</body>"
    (tmp_path / "d.trec").write_text(f"<DOC><DOCNO>w</DOCNO>{page}</html></DOC>")
    [document] = detect(str(tmp_path / "d.trec")).documents()
    assert (document.title, document.text) == ("Otters", "They swim.")


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("a < b and c > d", "a < b and c > d"),
        ("vector<int> and x<y and z>w", "vector<int> and x<y and z>w"),
        ("List<List<String>>", "List<List<String>>"),
        ("if a<b then", "if a<b then"),
        ("A <b>bold</b> <br/>word<P>", "A  bold   word"),
        ("<F P=100>x</F> <!-- no > word --> y", "x    y"),
        ("a <![CDATA[b <i> & c]]> d", "a b <i> & c d"),
        ("seen<script src='x'>var hidden;</script> <STYLE>p {}</STYLE>too", "seen   too"),
        ("AT&amp;T &lt;int&gt; R&D&copy; dogs&regret", "AT&T <int> R&D© dogs&regret"),
    ],
)
def test_only_tags_are_taken_out(markup, text):
    assert plain(markup) == text


def test_a_cdata_section_is_text_as_it_stands():
    assert (
        plain("a <![CDATA[vector<int> &amp; <b>bold</b>]]> c")
        == "a vector<int> &amp; <b>bold</b> c"
    )


def topics(path: Path, text: str, **options: str) -> list[Query]:
    path.write_text(text)
    return list(read_queries(path, SourceOptions(**options)))


def test_a_title_of_a_topic_is_whole(tmp_path):
    read = topics(
        tmp_path / "t.txt",
        "<top>\n<num> Number: 1\n<title> vector<int> size\n<desc> d\n</top>\n"
        "<top>\n<num> 2\n<title> A <b>bold</b> title\n</top>\n"
        "<top lang='en'><num>3</num><title>AT&amp;T mergers</title><x>other</x></top>",
    )
    assert read == [
        Query("1", "vector<int> size"),
        Query("2", "A bold title"),
        Query("3", "AT&T mergers"),
    ]
    text = "<top><num>1</num><EN-title>otters</EN-title></top>"
    assert topics(tmp_path / "c.txt", text, topic_field="EN-title") == [Query("1", "otters")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<top></top>", "t.txt:1: topic 1 has no field 'num'; available: none"),
        (
            "<top><num>1<title> <desc>d</top>",
            "t.txt:1: topic 1 has an empty field 'title'; available: num, desc",
        ),
        ("<top>\n<num>1\n<title>a\n<top>\n<num>2\n<title>b\n</top>", "t.txt:4: a <top> inside"),
        ("<top><num>1\n<title>a\n<num>2\n<title>b\n</top>", "t.txt:3: a second <num>"),
        ("<top><num>1<title>a</top>\n<top><num>2<title>b", "t.txt:2: <top> has no matching </top>"),
    ],
)
def test_a_broken_topic_is_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        topics(tmp_path / "t.txt", text)
