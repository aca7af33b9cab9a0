"""Text identifier kinds: their content, and shared identifiers."""

import pytest

from data_prep.errors import InputError
from docids.kinds import KINDS, Documents
from docids.kinds.url import looks_like_url, url_words
from docids.pieces import Pieces
from docids.table import END

TITLES = ["Cats", "Cats", "The Moon", ""]
TEXTS = [
    "Cats\nA cat purrs. Purring calms kittens, and kittens purr.",
    "Cats\nCats hunt mice at night. Mice hide from cats.",
    "The Moon\nThe moon orbits the earth. Tides follow the moon.",
    "Glaciers carve valleys. Valleys hold glaciers.",
]
QUERIES = [
    ["cats", "why do cats purr"],
    ["cats", "cats hunt mice"],
    ["why tides follow the moon", "earth"],
    [],
]


def documents(start=0, titles=TITLES, texts=TEXTS, queries=QUERIES):
    ids = [f"d{start + i}" for i in range(len(texts))]
    return Documents(ids, texts, None, titles, lambda generator: queries)


def said(built):
    """What all identifiers of each document say, from their codes alone."""
    pieces = Pieces.of(built.extras)
    table = built.table
    for row in range(len(table)):
        assert all(sequence[-1] == END for sequence in table.sequences(row))
    return [[pieces.text(s) for s in table.sequences(row)] for row in range(len(table))]


def build(kind, **options):
    return KINDS[kind].build(documents(), KINDS[kind].Options(**options), 0)


def test_all_documents_of_a_title_are_told_apart_by_keywords():
    # The first document does not keep the bare title, shorter than the identifiers of the others.
    assert said(build("title")) == [
        ["cats kittens cat purrs"],
        ["cats mice hunt night"],
        ["the moon"],
        ["glaciers valleys carve"],
    ]


def test_shared_titles_are_shared():
    built = build("title", collisions="share")
    assert said(built)[:2] == [["cats"], ["cats"]]
    assert built.table.sequence(0) == built.table.sequence(1)
    assert built.table.shared


def test_the_tokens_of_a_model_need_one():
    with pytest.raises(InputError, match=r"title.tokens model needs .* none is given"):
        build("title", tokens="model")


def test_keywords_are_the_heaviest_terms():
    first, second, moon, ice = said(build("keywords", count=2))
    # Twice and in no other document: the highest weights, in order of occurrence.
    assert first == ["kittens purrs"] or first == ["kittens cat"]
    assert second[0].split()[0] == "mice"
    assert moon == ["moon orbits"] or moon[0].startswith("moon")
    assert ice == ["glaciers valleys"]


def test_descriptions_lead_back_to_their_documents():
    built = build("description", identifiers=2)
    first, second, moon, ice = said(built)
    # "cats" matches both documents, so it comes second; the other document already has it.
    assert first == ["why do cats purr", "cats"]
    assert second[0] == "cats hunt mice"
    assert moon[0] in QUERIES[2]
    assert ice[0].startswith("glaciers valleys")  # without queries: keywords


def test_a_document_without_text_has_an_identifier():
    built = build("title")
    more = KINDS["title"].extend(built, documents(4, ["", ""], ["", "?"], [[], []]), 0)
    assert said(more)[4:] == [[" #2"], [" #3"]]


def test_words_never_seen_before_become_new_codes_only_where_needed():
    built = build("title", vocabulary=30)
    before = built.table.alphabet_size
    known = KINDS["title"].extend(built, documents(4, ["Cats moon"], ["Cats moon\n"], [[]]), 0)
    assert said(known)[4] == ["cats moon"]
    assert known.table.alphabet_size == before
    new = KINDS["title"].extend(known, documents(5, ["Zþ 雪"], ["Zþ 雪\n"], [[]]), 0)
    assert said(new)[5] == ["zþ 雪"]
    assert new.table.alphabet_size > before
    assert said(new)[:5] == said(known)


def test_no_identifier_is_longer_than_asked_for():
    built = build("description", max_tokens=3)
    assert built.table.lengths.max() <= 3 + 1


def test_words_of_urls():
    assert url_words("https://www.bbc.co.uk/news/world-1234?x=1#top") == [
        "bbc", "co", "uk", "news", "world", "1234", "x", "1",
    ]  # fmt: skip
    assert url_words("en.wikipedia.org/wiki/Super_Bowl%2050") == [
        "en", "wikipedia", "org", "wiki", "super", "bowl", "50",
    ]  # fmt: skip
    assert [
        looks_like_url(text)
        for text in ("http://x/y", "example.com", "example.com/a", "doc.1", "a b.com", "title")
    ] == [True, True, True, False, False, False]


def test_urls_are_looked_for_in_their_column_then_ids_then_titles():
    urls = ["", "", "https://w.org/c"]
    titles = ["Title", "http://v.org/b", "http://v.org/no"]
    found = Documents(["u.org/a", "7", "u.org/no"], ["x", "y", "z"], None, titles, None, urls)
    built = KINDS["url"].build(found, KINDS["url"].Options(), 0)
    assert said(built) == [["u org a"], ["v org b"], ["w org c"]]
    with pytest.raises(InputError, match=r"document 'u\.org/a' has no URL.*--url_column"):
        KINDS["url"].build(found, KINDS["url"].Options(column="url"), 0)
    with pytest.raises(InputError, match=r"document 'd0' has no URL, and neither its id nor its"):
        build("url")
    assert said(build("url", column="doc_id")) == [["d0"], ["d1"], ["d2"], ["d3"]]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("title", {"max_tokens": 1}, "--max_tokens 1 is less than 2"),
        ("title", {"collisions": "ignore"}, "Choose from: extend, share"),
        ("keywords", {"count": 0}, "--keywords.count 0 is less than 1"),
        ("description", {"candidates": 0}, "--description.candidates 0 is less than 1"),
        ("url", {"column": "text"}, "Choose from: auto, url, doc_id, title"),
    ],
)
def test_impossible_options_are_refused(kind, options, message):
    with pytest.raises(InputError, match=message):
        KINDS[kind].Options(**options)
