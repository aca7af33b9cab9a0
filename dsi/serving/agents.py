"""An index as tools for agents: the Model Context Protocol."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Annotated, Any

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import CallToolResult, InputRequiredResult
from pydantic import Field, ValidationError
from starlette.types import ASGIApp

from data_prep.errors import InputError
from dsi.serving.app import without_place
from dsi.serving.guard import Guard
from dsi.serving.live_updates import running
from dsi.serving.options import ServerOptions
from dsi.serving.request_batching import Batcher, OverloadedError, SearchRequest
from dsi.serving.searcher import Source

PATH = "/mcp"
"""Where the tools are, over HTTP."""
SNIPPET = 400
"""Characters of a text that a search shows; `get_document` returns all of it."""


class _Tools(MCPServer[Any]):
    """Refuses wrong arguments in one line that names them."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        for tool in await self.list_tools():
            known = tool.input_schema.get("properties", {})
            unknown = sorted(set(arguments).difference(known))
            if tool.name == name and unknown:
                takes = ", ".join(known) if known else "none"
                raise ToolError(f"unknown argument {unknown[0]!a:.60}; the arguments are: {takes}")
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if not isinstance(error.__cause__, ValidationError):
                raise
            first = error.__cause__.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise ToolError(f"{place}: {first['msg']}") from None


def tools(source: Source, options: ServerOptions) -> MCPServer[Any]:
    """Returns a server of the tools `search`, `get_document` and `index_info`.

    Args:
        source: The source of the searcher.
        options: Options of the server, of which limits and batching are used.
    """
    limits = options.limits
    batcher = Batcher(source, options.batch, limits.waiting)

    @contextlib.asynccontextmanager
    async def lifespan(_: MCPServer[Any]) -> AsyncIterator[None]:
        async with running(batcher, source):
            yield

    server = _Tools(
        "dsi",
        instructions="Searches a corpus of documents. Call search first, then get_document for "
        "the whole text of a document that it found.",
        version=version("dsi-toolkit"),
        log_level="WARNING",
        lifespan=lifespan,
    )

    @server.tool()
    async def search(
        query: Annotated[str, Field(description="A question or some words.")],
        k: Annotated[int, Field(description="How many documents to return.", ge=1)] = 5,
    ) -> dict[str, Any]:
        """Finds the documents that answer a query, best first, with the beginning of each text."""
        if not query.strip() or len(query) > limits.query:
            raise ToolError(f"query must have 1 to {limits.query:,} characters")
        if k > limits.k:
            raise ToolError(f"k must be at most {limits.k:,}")
        question = SearchRequest((query,), k, with_text=True)
        try:
            answer = await batcher.ask(question)
        except InputError as error:
            raise ToolError(without_place(error)) from None
        except OverloadedError:
            raise ToolError("too many queries are waiting; try again later") from None
        [result] = answer.results
        hits = [{**hit, "text": _shortened(hit["text"])} for hit in result["hits"]]
        return {"version": answer.version, "known": result["known"], "hits": hits}

    @server.tool()
    async def get_document(
        doc_id: Annotated[str, Field(description="The id of a document, as search gives it.")],
    ) -> dict[str, Any]:
        """Returns a document: its id, title and full text."""
        try:
            [document] = await batcher.run(lambda searcher: searcher.documents([doc_id]))
        except InputError as error:
            raise ToolError(without_place(error)) from None
        return {"doc_id": document.doc_id, "title": document.title, "text": document.text}

    @server.tool()
    async def index_info() -> dict[str, Any]:
        """Tells what is searched: the version of the index and how many documents it has."""
        searcher = source.current
        return {"version": searcher.version, "documents": len(searcher), **searcher.facts}

    return server


def _shortened(text: str) -> str:
    return text if len(text) <= SNIPPET else f"{text[:SNIPPET].rstrip()} ..."


def over_standard_streams(server: MCPServer[Any]) -> None:
    """Serves the client that started this process, until it closes standard input."""
    anyio.run(server.run_stdio_async)


def over_http(server: MCPServer[Any], options: ServerOptions) -> ASGIApp:
    """Returns a streamable HTTP application, with the token and log of `dsi serve`."""
    # The guard checks hosts; the SDK's own check does not know the options of this server.
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        max_request_body_size=options.limits.body,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    return Guard(
        app,
        token=options.token(),
        hosts=options.allowed_hosts(),
        access_log=options.access_log,
    )
