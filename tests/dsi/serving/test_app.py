"""Requests and responses, without a network and without an index."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from serve import Fixed
from serving_doubles import Words
from starlette.testclient import TestClient

from data_prep.errors import InputError
from dsi.serving.app import application
from dsi.serving.openapi import description
from dsi.serving.options import TOKEN_VARIABLE, BatchOptions, Limits, ServerOptions
from dsi.serving.request_batching import (
    Batcher,
    OverloadedError,
    SearchRequest,
    SearchResponse,
    answer,
)
from dsi.serving.request_parsing import RefusedError, read_search_request

LIMITS = Limits(body=2000, queries=3, query=50, k=5, seconds=5)
OPTIONS = ServerOptions(limits=LIMITS)


@pytest.fixture
def words() -> Words:
    return Words()


@pytest.fixture
def client(words) -> Iterator[TestClient]:
    app = application(Fixed(words), OPTIONS)
    with TestClient(app, "http://127.0.0.1", raise_server_exceptions=False) as made:
        yield made


def test_a_search_finds_documents_the_best_first(client):
    found = client.post("/search", json={"queries": ["boils water", "ink"], "k": 2}).json()
    assert found["version"] == "0001"
    assert [result["query"] for result in found["results"]] == ["boils water", "ink"]
    ids = [[hit["doc_id"] for hit in result["hits"]] for result in found["results"]]
    assert ids == [["kettle", "五"], ["pen", "kettle"]]
    assert set(found["results"][0]["hits"][0]) == {"rank", "doc_id", "score", "title"}


def test_texts_and_explanations_come_when_they_are_asked_for(client):
    asked = {"queries": "water", "k": 1, "with_text": True, "explain": True}
    [hit] = client.post("/search", json=asked).json()["results"][0]["hits"]
    assert hit["text"] == "boils water"
    assert hit["explanation"]["score"] == hit["score"] == 1.0


def test_only_and_exclude_are_those_of_the_search(client):
    def ids(**more: Any) -> list[str]:
        found = client.post("/search", json={"queries": ["water"], **more}).json()
        return [hit["doc_id"] for hit in found["results"][0]["hits"]]

    assert ids(only=["pen", "五"]) == ["五", "pen"]
    assert ids(exclude=["kettle"]) == ["五", "pen"]


def test_a_document_by_its_id_whatever_signs_are_in_it():
    texts = {"a/b c?d#e%": "one", "五": "two", ".": "three", "a\r\nb": "four"}
    with TestClient(application(Fixed(Words(documents=texts)), OPTIONS), "http://localhost") as it:
        for doc_id, path in (
            ("a/b c?d#e%", "a%2Fb%20c%3Fd%23e%25"),
            ("五", "%E4%BA%94"),
            ("a\r\nb", "a%0D%0Ab"),
        ):
            found = it.get(f"/documents/{path}").json()
            assert (found["doc_id"], found["text"]) == (doc_id, texts[doc_id])


GOOD = {"queries": ["water"]}
REFUSED: list[tuple[str, Any, int]] = [
    ("no body", b"", 400),
    ("no JSON", b"{", 400),
    ("not UTF-8", b'{"queries": ["\xff"]}', 400),
    ("nested without end", b"[" * 1900, 400),
    ("a number too long", b'{"queries": ["a"], "k": ' + b"1" * 1900 + b"}", 400),
    ("a number that JSON has not", b'{"queries": ["a"], "k": NaN}', 400),
    ("half a character", b'{"queries": ["\\ud800"]}', 400),
    ("no object", [], 400),
    ("no queries", {}, 400),
    ("an empty list", {"queries": []}, 400),
    ("too many queries", {"queries": ["a"] * 4}, 400),
    ("a number for a query", {"queries": [7]}, 400),
    ("a blank query", {"queries": [" \t\n"]}, 400),
    ("a query too long", {"queries": ["a" * 51]}, 400),
    ("an unknown field", {**GOOD, "kk": 3}, 400),
    ("a field twice", b'{"queries": ["a"], "k": 1, "k": 2}', 400),
    ("no result", {**GOOD, "k": 0}, 400),
    ("too many results", {**GOOD, "k": 6}, 400),
    ("a truth for a number", {**GOOD, "k": True}, 400),
    ("a fraction", {**GOOD, "k": 1.5}, 400),
    ("a number for a truth", {**GOOD, "with_text": 1}, 400),
    ("a text for a list", {**GOOD, "only": "pen"}, 400),
    ("a number for an id", {**GOOD, "exclude": [1]}, 400),
    ("too much", {"queries": ["a"], "only": ["x" * 3000]}, 413),
]


@pytest.mark.parametrize(
    ("body", "status"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_what_makes_no_sense_gets_its_status_and_is_not_searched(client, words, body, status):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    done = client.post("/search", content=content, headers={"content-type": "application/json"})
    assert done.status_code == status
    assert done.json()["error"].count("\n") == 0
    assert not words.batches


def test_a_body_of_unknown_length_is_read_up_to_the_limit(client, words):
    def body() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    done = client.post("/search", content=body(), headers={"content-type": "application/json"})
    assert (done.status_code, words.batches) == (413, [])


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_forms_of_other_sites_cannot_search(client, words, kind):
    done = client.post("/search", content=json.dumps(GOOD), headers={"content-type": kind})
    assert (done.status_code, words.batches) == (415, [])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/search", 405), ("GET", "/nowhere", 404), ("DELETE", "/documents/pen", 405)],
)
def test_other_addresses_and_methods_have_their_status(client, method, path, status):
    done = client.request(method, path)
    assert done.status_code == status
    assert done.json()["error"]


def test_an_unknown_document_is_told_without_the_place_of_the_index(client):
    for done, status in (
        (client.get("/documents/cup"), 404),
        (client.post("/search", json={**GOOD, "only": ["cup"]}), 400),
    ):
        assert done.status_code == status
        assert done.json() == {"error": "no document 'cup'."}


@settings(max_examples=150)
@given(
    body=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["queries", "k", "only", "x"]), inner, max_size=3)
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_is_sent_is_understood_or_refused(body):
    told = None
    try:
        question = read_search_request("application/json", body, LIMITS)
    except RefusedError as error:
        told = error
    if told is None:
        assert 1 <= len(question.queries) <= LIMITS.queries
        assert 1 <= question.k <= LIMITS.k
    else:
        assert (told.status, told.message.count("\n")) == (400, 0)


@pytest.fixture
def guarded(words, monkeypatch) -> Iterator[TestClient]:
    monkeypatch.setenv(TOKEN_VARIABLE, "s3cret")
    with TestClient(application(Fixed(words), OPTIONS), "http://localhost") as made:
        yield made


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", "Bearer s3cret2", "Basic s3cret", "s3cret"]
)
def test_without_the_token_nothing_is_searched_or_shown(guarded, words, header):
    headers = {} if header is None else {"authorization": header}
    for done in (
        guarded.post("/search", json=GOOD, headers=headers),
        guarded.post("/search", content=b"x" * 10_000, headers=headers),
        guarded.get("/documents/pen", headers=headers),
        guarded.get("/version", headers=headers),
    ):
        assert done.status_code == 401
        assert done.headers["www-authenticate"] == "Bearer"
        assert "s3cret" not in done.text
    assert not words.batches


def test_with_the_token_all_is_as_it_is_without_one(guarded):
    headers = {"authorization": "Bearer s3cret"}
    assert guarded.post("/search", json=GOOD, headers=headers).status_code == 200
    assert guarded.get("/documents/pen", headers=headers).status_code == 200
    for public in ("/", "/healthz", "/docs", "/openapi.json"):
        assert guarded.get(public).status_code == 200


def test_a_token_file_is_read_and_an_empty_one_refused(tmp_path):
    (tmp_path / "token").write_text("abc\n")
    assert ServerOptions(token_file=tmp_path / "token").token() == "abc"
    for content in ("", " \n", "two words", "ключ"):
        (tmp_path / "token").write_text(content)
        with pytest.raises(InputError, match="a token must be one line of ASCII letters"):
            ServerOptions(token_file=tmp_path / "token").token()
    with pytest.raises(InputError, match="cannot read the token"):
        ServerOptions(token_file=tmp_path / "none").token()
    (tmp_path / "token").write_text("a" * 4097)
    with pytest.raises(InputError, match="at most 4,096 characters"):
        ServerOptions(token_file=tmp_path / "token").token()


@pytest.mark.parametrize(
    ("host", "hosts", "asked", "status"),
    [
        ("127.0.0.1", [], "127.0.0.1:8000", 200),
        ("127.0.0.1", [], "LOCALHOST", 200),
        ("127.0.0.1", [], "[::1]:8000", 200),
        ("127.0.0.1", [], "elsewhere.example", 421),
        ("127.0.0.1", [], "127.0.0.1.elsewhere.example", 421),
        ("0.0.0.0", [], "search.example", 200),
        ("0.0.0.0", ["search.example"], "search.example:80", 200),
        ("0.0.0.0", ["search.example"], "elsewhere.example", 421),
    ],
)
def test_a_name_that_leads_here_from_elsewhere_is_refused(words, host, hosts, asked, status):
    options = ServerOptions(host=host, hosts=hosts)
    with TestClient(application(Fixed(words), options), "http://x") as client:
        assert client.get("/version", headers={"host": asked}).status_code == status


def test_every_answer_keeps_browsers_from_guessing_and_framing(client):
    for path in ("/", "/docs", "/version", "/nowhere"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]


def test_the_log_says_what_was_asked_for_but_not_the_words(client, capsys):
    client.post("/search", json={"queries": ["ink", "water"]})
    line = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (line["method"], line["path"], line["status"]) == ("POST", "/search", 200)
    assert (line["version"], line["queries"], line["batch"]) == ("0001", 2, 2)
    assert "water" not in str(line)


def test_answers_are_as_they_are_described(client):
    described = client.get("/openapi.json").json()
    assert described == json.loads(json.dumps(description(LIMITS, token=False)))

    def check(path: str, method: str, done: Any) -> None:
        answers = described["paths"][path][method]["responses"]
        schema = answers[str(done.status_code)]["content"]["application/json"]["schema"]
        Draft202012Validator({**schema, "components": described["components"]}).validate(
            done.json()
        )

    asked = {**GOOD, "with_text": True, "explain": True}
    check("/search", "post", client.post("/search", json=asked))
    check("/search", "post", client.post("/search", json={}))
    check("/documents/{id}", "get", client.get("/documents/pen"))
    check("/documents/{id}", "get", client.get("/documents/cup"))
    check("/version", "get", client.get("/version"))
    check("/healthz", "get", client.get("/healthz"))
    question = described["paths"]["/search"]["post"]["requestBody"]["content"]
    question = question["application/json"]["schema"]
    for body, wrong in ((asked, False), ({**GOOD, "k": 6}, True), ({"queries": []}, True)):
        assert bool(list(Draft202012Validator(question).iter_errors(body))) is wrong
    for each in described["paths"]:
        assert each in client.get("/docs").text


def test_a_defect_is_told_as_one_and_nothing_of_it(words):
    words.search = lambda *_: 1 / 0
    app = application(Fixed(words), OPTIONS)
    with TestClient(app, "http://127.0.0.1", raise_server_exceptions=False) as client:
        done = client.post("/search", json=GOOD)
        assert done.status_code == 500
        assert "zero" not in done.text
        assert client.get("/healthz").status_code == 200


# Concurrent queries.


def answered(searcher: Any, questions: list[SearchRequest], options: BatchOptions) -> list[Any]:
    """Asks all questions at once, and returns answers and errors."""

    async def ask() -> list[Any]:
        batcher = Batcher(Fixed(searcher), options, waiting=1000)
        await batcher.start()
        try:
            asked = [batcher.ask(question) for question in questions]
            return await asyncio.gather(*asked, return_exceptions=True)
        finally:
            await batcher.stop()

    return asyncio.run(ask())


QUESTIONS = st.builds(
    SearchRequest,
    queries=st.lists(st.sampled_from(["ink", "water", "boils water"]), min_size=1, max_size=4).map(
        tuple
    ),
    k=st.sampled_from([1, 2]),
    only=st.sampled_from([None, ("pen",), ("cup",)]),
)


@settings(max_examples=60)
@given(
    questions=st.lists(QUESTIONS, min_size=1, max_size=12),
    most=st.integers(1, 8),
    wait=st.sampled_from([0.0, 1.0]),
)
def test_together_every_question_gets_what_it_gets_alone(questions, most, wait):
    words = Words()
    found = answered(words, questions, BatchOptions(queries=most, wait=wait))
    for question, got in zip(questions, found, strict=True):
        if question.only == ("cup",):
            assert isinstance(got, InputError)
        else:
            assert isinstance(got, SearchResponse)
            assert got.results == answer(Words(), [question])[0].results
    longest = max(len(question.queries) for question in questions)
    assert all(len(batch) <= max(most, longest) for batch in words.batches)


def test_what_comes_while_another_is_searched_is_searched_together():
    class Slow(Words):
        def search(self, queries, *rest):
            if not begun.is_set():
                begun.set()
                release.wait(60)
            return super().search(queries, *rest)

    begun, release, slow = threading.Event(), threading.Event(), Slow()

    async def ask() -> None:
        batcher = Batcher(Fixed(slow), BatchOptions(), waiting=1000)
        await batcher.start()
        first = asyncio.create_task(batcher.ask(SearchRequest(("ink",), 1)))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        others = [asyncio.create_task(batcher.ask(SearchRequest((f"{n}",), 1))) for n in range(5)]
        await asyncio.sleep(0.01)
        release.set()
        await asyncio.gather(first, *others)
        await batcher.stop()

    asyncio.run(ask())
    assert sorted(map(len, slow.batches)) == [1, 5]


def test_when_too_much_waits_more_is_refused():
    async def ask() -> None:
        batcher = Batcher(Fixed(Words()), BatchOptions(), waiting=3)
        waiting = [asyncio.create_task(batcher.ask(SearchRequest(("a",), 1))) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await batcher.ask(SearchRequest(("b",), 1))
        await batcher.start()
        await asyncio.gather(*waiting)
        assert (await batcher.ask(SearchRequest(("b", "b", "b"), 1))).version == "0001"
        await batcher.stop()

    asyncio.run(ask())


def test_who_goes_away_leaves_room_for_others():
    async def ask() -> None:
        batcher = Batcher(Fixed(Words()), BatchOptions(), waiting=1)
        gone = asyncio.create_task(batcher.ask(SearchRequest(("a",), 1)))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        await batcher.start()
        await asyncio.sleep(0.05)
        assert (await batcher.ask(SearchRequest(("b",), 1))).version == "0001"
        await batcher.stop()

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (lambda: Limits(k=0), "--limits.k 0"),
        (lambda: Limits(seconds=0), "--limits.seconds 0"),
        (lambda: BatchOptions(wait=-1), "--batch.wait -1"),
        (lambda: ServerOptions(port=70_000), "--port 70000 is not at least 0 and at most 65535"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, told):
    with pytest.raises(InputError, match=told):
        options()
