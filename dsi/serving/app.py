"""The ASGI application: search, documents, facts about the index, and a web page."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from data_prep.errors import InputError
from dsi.serving.guard import Guard
from dsi.serving.live_updates import running
from dsi.serving.openapi import description, description_page
from dsi.serving.options import ServerOptions
from dsi.serving.request_batching import Batcher, OverloadedError
from dsi.serving.request_parsing import RefusedError, read_body, read_search_request
from dsi.serving.search_page import PAGE, PAGE_POLICY
from dsi.serving.searcher import Source


class _AnyText(PathConvertor):
    """The rest of a path, with line breaks: a document id may have them."""

    regex = r"[\s\S]*"


register_url_convertor("any_text", _AnyText())
PUBLIC = ("/", "/healthz", "/docs", "/openapi.json")
"""Paths that are served without the token: they reveal nothing of the index but its version's
name."""


def application(source: Source, options: ServerOptions) -> Starlette:
    """Returns the application.

    Args:
        source: The source of the searcher.
        options: Options of the server; of the listening address, only the hosts matter here.
    """
    batcher = Batcher(source, options.batch, options.limits.waiting)
    endpoints = _Endpoints(source, batcher, options)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with running(batcher, source):
            yield

    app = Starlette(
        routes=[
            Route("/", endpoints.page),
            Route("/search", endpoints.search, methods=["POST"]),
            Route("/documents/{doc_id:any_text}", endpoints.document),
            Route("/healthz", endpoints.health),
            Route("/version", endpoints.version),
            Route("/openapi.json", endpoints.openapi),
            Route("/docs", endpoints.docs),
        ],
        exception_handlers={
            HTTPException: _http_error,
            RefusedError: _refused,
            InputError: _input_error,
            OverloadedError: _overloaded,
        },
        lifespan=lifespan,
    )
    app.add_middleware(
        Guard,
        token=options.token(),
        hosts=options.allowed_hosts(),
        public=PUBLIC,
        access_log=options.access_log,
    )
    return app


class _Endpoints:
    """The handlers of all routes.

    Args:
        source: The source of the searcher.
        batcher: Runs the searches.
        options: Options of the server.
    """

    def __init__(self, source: Source, batcher: Batcher, options: ServerOptions) -> None:
        self._source = source
        self._batcher = batcher
        self._limits = options.limits
        self._token_wanted = options.token() is not None

    async def search(self, request: Request) -> Response:
        body = await read_body(request, self._limits)
        question = read_search_request(request.headers.get("content-type", ""), body, self._limits)
        answer = await self._batcher.ask(question)
        request.state.log = {
            "version": answer.version,
            "queries": len(answer.results),
            "batch": answer.batch,
        }
        return _json(
            {"version": answer.version, "seconds": answer.seconds, "results": answer.results}
        )

    async def document(self, request: Request) -> Response:
        doc_id = request.path_params["doc_id"]
        try:
            version, document = await self._batcher.run(
                lambda searcher: (searcher.version, searcher.documents([doc_id])[0])
            )
        except InputError as error:
            raise RefusedError(404, without_place(error)) from None
        return _json(
            {
                "version": version,
                "doc_id": document.doc_id,
                "title": document.title,
                "text": document.text,
                "url": document.url,
            }
        )

    async def health(self, request: Request) -> Response:
        problem = self._source.problem
        # The error may name folders, so it goes to the log and not into the response.
        status = "ok" if problem is None else "the live version cannot be opened"
        return _json({"status": status, "version": self._source.current.version})

    async def version(self, request: Request) -> Response:
        searcher = self._source.current
        return _json({"version": searcher.version, "documents": len(searcher), **searcher.facts})

    async def page(self, request: Request) -> Response:
        headers = {"content-security-policy": PAGE_POLICY}
        return Response(PAGE, media_type="text/html; charset=utf-8", headers=headers)

    async def openapi(self, request: Request) -> Response:
        return _json(description(self._limits, self._token_wanted))

    async def docs(self, request: Request) -> Response:
        page, policy = description_page(description(self._limits, self._token_wanted))
        headers = {"content-security-policy": policy}
        return Response(page, media_type="text/html; charset=utf-8", headers=headers)


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Returns JSON in ASCII, so that any title can be sent."""
    body = json.dumps(value, allow_nan=False)
    return Response(body, status, headers, media_type="application/json")


def without_place(error: InputError) -> str:
    """Returns the error message without the folder of the index, which clients must not see."""
    return re.sub(r"^\S*/\S*: ", "", str(error))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"error": error.detail}, error.status_code, dict(error.headers or {}))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    # The rest of the body is not awaited.
    headers = {"connection": "close"} if error.status in (408, 413) else None
    return _json({"error": error.message}, error.status, headers)


async def _input_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, InputError)
    return _json({"error": without_place(error)}, 400)


async def _overloaded(request: Request, error: Exception) -> Response:
    return _json({"error": "too many queries are waiting"}, 503, {"retry-after": "1"})
