"""Checks of every request (host, token), security headers for browsers, and the access log."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import hmac
import json
import sys
import time
from collections.abc import Collection
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")


class Guard:
    """ASGI middleware that checks and logs all requests.

    Args:
        app: The application.
        token: The token that requests must carry; None for none.
        hosts: Allowed host names of requests; None for any.
        public: Paths that need no token.
        access_log: Whether to write a line for each request.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str | None = None,
        hosts: Collection[str] | None = None,
        public: Collection[str] = (),
        access_log: bool = True,
    ) -> None:
        self._app = app
        self._token = None if token is None else _digest(token.encode())
        self._hosts = hosts
        self._public = public
        self._log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it to the application."""
        if scope["type"] != "http":
            if scope["type"] != "websocket":  # not supported: closed without an answer
                await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        response: dict[str, Any] = {"status": None, "bytes": 0}

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                response["status"] = message["status"]
                message["headers"] = _with_headers(message["headers"])
            elif message["type"] == "http.response.body":
                response["bytes"] += len(message.get("body", b""))
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self._app(scope, receive, sending)
            else:
                await _answer(sending, *refusal)
        except asyncio.CancelledError:
            # Only a server that stops cancels requests; raised on, it would be logged as a defect.
            if response["status"] is None:
                await _answer(sending, 503, "the server is stopping")
        finally:
            if self._log:
                _write_log(scope, response, time.perf_counter() - began)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Returns status and reason if a request must be refused."""
        headers = dict(scope["headers"])
        if self._hosts is not None and _host(headers.get(b"host", b"")) not in self._hosts:
            return 421, "this server is not known by that host name"
        if self._token is None or scope["path"] in self._public:
            return None
        kind, _, credentials = headers.get(b"authorization", b"").partition(b" ")
        # Digests are compared, so that timing reveals nothing about the token, not even its length.
        right = hmac.compare_digest(_digest(credentials.strip()), self._token)
        if right and kind.lower() == b"bearer":
            return None
        return 401, "a token is wanted: Authorization: Bearer TOKEN"


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _host(header: bytes) -> str:
    """Returns the name in a Host header, without the port."""
    name = header.decode("latin-1").lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]


def _with_headers(headers: Collection[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    existing = {name.lower() for name, _ in headers}
    return [*headers, *(each for each in (*_HEADERS, _POLICY) if each[0] not in existing)]


async def _answer(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error": reason}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # the rest of the request is not read
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _write_log(scope: Scope, response: dict[str, Any], seconds: float) -> None:
    """Writes a line of JSON, without queries and tokens."""
    client = scope.get("client")
    line = {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds"),
        "client": client[0] if client else None,
        "method": scope["method"],
        "path": scope["path"],
        **response,
        "ms": round(seconds * 1000, 1),
        **scope.get("state", {}).get("log", {}),
    }
    print(json.dumps(line), file=sys.stderr, flush=True)
