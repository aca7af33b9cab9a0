"""An index as MCP tools, called by the SDK's own client over standard streams and HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from serve import Fixed
from serving_doubles import Words

from dsi import cli
from dsi.serving.agents import tools
from dsi.serving.options import Limits, ServerOptions


def asked(target: Any, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """Lists the tools, calls some, and returns the names and the results."""

    async def ask() -> list[Any]:
        async with Client(target) as client:
            listed = await client.list_tools()
            found: list[Any] = [sorted(tool.name for tool in listed.tools)]
            for name, arguments in calls:
                found.append(await client.call_tool(name, arguments))
            return found

    return anyio.run(ask)


CALLS = (
    ("search", {"query": "boils water", "k": 2}),
    ("get_document", {"doc_id": "kettle"}),
    ("index_info", {}),
    ("get_document", {"doc_id": "cup"}),
)


def check(found: list[Any]) -> None:
    names, search, document, info, unknown = found
    assert names == ["get_document", "index_info", "search"]
    hits = search.structured_content["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2]
    assert hits[0]["doc_id"] == "kettle"
    assert hits[0]["text"] == document.structured_content["text"]
    assert document.structured_content["text"] == "A kettle boils water for tea."
    assert info.structured_content["version"] == "0001"
    assert info.structured_content["documents"] == 7
    assert unknown.is_error
    assert "no document 'cup'" in unknown.content[0].text


def test_over_standard_streams(trained):
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "dsi", "mcp", str(trained)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    check(asked(stdio_client(server), *CALLS))


def test_over_http(trained):
    process = subprocess.Popen(
        [sys.executable, "-m", "dsi", "mcp", str(trained), "--transport", "http", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    try:
        line = next(line for line in process.stderr if " at http://" in line)
        check(asked(line.partition(" at ")[2].partition(". ")[0], *CALLS))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"query": " "}, "query must have 1 to 50 characters"),
        ({"query": "x" * 51}, "query must have 1 to 50 characters"),
        ({"query": "x", "k": 6}, "k must be at most 5"),
        ({"query": "x", "k": 0}, "greater than or equal to 1"),
        ({}, "query: Field required"),
        ({"query": ["x"]}, "query: Input should be a valid string"),
        ({"query": "x", "k": 1.5}, "k: Input should be a valid integer"),
        ({"query": "x", "top": 3}, "unknown argument 'top'; the arguments are: query, k"),
    ],
)
def test_what_makes_no_sense_is_told_and_not_searched(arguments, told):
    words = Words()
    server = tools(Fixed(words), ServerOptions(limits=Limits(k=5, query=50)))
    _, result = asked(server, ("search", arguments))
    assert result.is_error
    assert told in result.content[0].text
    assert "\n" not in result.content[0].text
    assert not words.batches


def test_long_texts_are_shortened_in_a_search_and_whole_in_a_document():
    server = tools(Fixed(Words(documents={"long": "water " * 500})), ServerOptions())
    _, search, document = asked(
        server, ("search", {"query": "water"}), ("get_document", {"doc_id": "long"})
    )
    assert len(search.structured_content["hits"][0]["text"]) <= 404
    assert document.structured_content["text"] == "water " * 500


@pytest.mark.parametrize(
    "words",
    [
        ["--host", "0.0.0.0"], ["--port", "9000"], ["--token_file", "token"], ["--hosts", "a"],
        ["--access_log", "false"],
    ],
)  # fmt: skip
def test_options_of_a_network_are_refused_over_standard_streams(trained, words, capsys):
    assert cli.main(["mcp", str(trained), *words]) == 2
    assert f"{words[0]} has no effect over standard streams" in capsys.readouterr().err
