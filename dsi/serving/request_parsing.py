"""The body of a search request: read within limits, then parsed or refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.requests import ClientDisconnect, Request

from dsi.serving.options import Limits
from dsi.serving.request_batching import SearchRequest

FIELDS = ("queries", "k", "only", "exclude", "with_text", "explain")


class RefusedError(Exception):
    """A request that is refused.

    Args:
        status: The HTTP status.
        message: The error, in one line.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


async def read_body(request: Request, limits: Limits) -> bytes:
    """Reads the body of a request.

    Raises:
        RefusedError: It is too large, or takes too long to arrive.
    """
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length[:18]) > limits.body:
        raise _too_large(limits)
    try:
        return await asyncio.wait_for(_read(request, limits), limits.seconds)
    except (TimeoutError, asyncio.TimeoutError):
        message = f"the request was not complete after {limits.seconds:g} seconds"
        raise RefusedError(408, message) from None
    except ClientDisconnect:
        raise RefusedError(400, "the client disconnected") from None


async def _read(request: Request, limits: Limits) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limits.body:
            raise _too_large(limits)
    return bytes(body)


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(413, f"the body must have at most {limits.body:,} bytes")


def read_search_request(content_type: str, body: bytes, limits: Limits) -> SearchRequest:
    """Parses a body.

    Args:
        content_type: The media type of the request.
        body: The body.
        limits: The limits on a request.

    Raises:
        RefusedError: It is not JSON, is invalid, or exceeds a limit.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "send JSON with the header Content-Type: application/json")
    try:
        content = json.loads(
            body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_fields
        )
    except (ValueError, RecursionError):
        raise RefusedError(400, "the body is not valid JSON in UTF-8") from None
    if not isinstance(content, dict):
        raise RefusedError(400, 'the body must be an object: {"queries": ["..."]}')
    unknown = sorted(set(content).difference(FIELDS))
    if unknown:
        raise RefusedError(
            400, f"unknown field {unknown[0]!a:.60}; the fields are {', '.join(FIELDS)}"
        )
    only = content.get("only")
    return SearchRequest(
        queries=_queries(content.get("queries"), limits),
        k=_k(content.get("k", min(10, limits.k)), limits),
        only=None if only is None else _ids(only, "only"),
        exclude=_ids(content.get("exclude", []), "exclude"),
        with_text=_switch(content.get("with_text", False), "with_text"),
        explain=_switch(content.get("explain", False), "explain"),
    )


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RefusedError(400, f"the field {twice!a:.60} appears twice")
    return fields


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not valid in JSON")


def _queries(value: Any, limits: Limits) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value:
        raise RefusedError(400, "queries must be a list of at least one string")
    if len(value) > limits.queries:
        raise RefusedError(
            400, f"queries has {len(value):,} entries; at most {limits.queries:,} are allowed"
        )
    for number, query in enumerate(value, 1):
        if not _is_text(query) or not query.strip():
            raise RefusedError(400, f"queries: number {number} is not a string, or is empty")
        if len(query) > limits.query:
            raise RefusedError(
                400, f"queries: number {number} is longer than {limits.query:,} characters"
            )
    return tuple(value)


def _k(value: Any, limits: Limits) -> int:
    if type(value) is not int or not 1 <= value <= limits.k:
        raise RefusedError(400, f"k must be a whole number from 1 to {limits.k:,}")
    return value


def _ids(value: Any, name: str) -> tuple[str, ...]:
    """Returns ids in a canonical order, so that equal requests are recognized."""
    if not isinstance(value, list) or not all(map(_is_text, value)):
        raise RefusedError(400, f"{name} must be a list of document ids")
    return tuple(sorted(set(value)))


def _switch(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise RefusedError(400, f"{name} must be true or false")
    return value


def _is_text(value: Any) -> bool:
    """Tells whether a value is valid text: JSON can contain lone surrogates."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
