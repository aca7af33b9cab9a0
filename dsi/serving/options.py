"""All options of a server."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from data_prep.checks import Options
from data_prep.errors import InputError
from data_prep.marks import Count, NotNegative, Positive, Range

TOKEN_VARIABLE = "DSI_TOKEN"
"""The environment variable that may hold the token instead of a file."""
_MOST_TOKEN = 4096


@dataclass(frozen=True)
class Limits(Options, group="limits"):
    """Limits of a request; larger ones are refused before anything is computed."""

    body: Count = 1 << 20
    """Maximum size of a request body in bytes"""
    queries: Count = 64
    """Maximum number of queries per request"""
    query: Count = 10_000
    """Maximum length of a query in characters"""
    k: Count = 100
    """Maximum number of documents per query"""
    waiting: Count = 1024
    """Maximum number of waiting queries; further requests get status 503"""
    connections: Count = 512
    """Maximum number of open connections"""
    seconds: Positive = 10.0
    """Seconds that a client has to send a request, and to read the response"""


@dataclass(frozen=True)
class BatchOptions(Options, group="batch"):
    """How concurrent requests are batched."""

    queries: Count = 32
    """Maximum number of queries per batch"""
    wait: NotNegative = 3.0
    """Maximum time in milliseconds that a query waits for others, if the last batch had several"""


@dataclass(frozen=True, kw_only=True)
class ServerOptions(Options):
    """Where a server listens, and which clients it serves."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all interfaces"""
    port: Annotated[int, Range(ge=0, le=65535)] = 8000
    """Port; 0 for any free one"""
    token_file: Path | None = None
    """File with the token that requests must send (Authorization: Bearer TOKEN); the environment
    variable DSI_TOKEN can hold it instead; by default no token is required"""
    hosts: list[str] = field(default_factory=list)
    """Host names that requests may be sent to; default any, or localhost if the server listens on a
    loopback address"""
    access_log: bool = True
    """Write one line of JSON per request to standard error"""
    device: str | None = None
    """Device to search on ("cpu", "cuda:1"); default an accelerator if there is one"""
    limits: Limits = field(default_factory=Limits)
    """Limits of a request"""
    batch: BatchOptions = field(default_factory=BatchOptions)
    """Batching of concurrent requests"""

    def token(self) -> str | None:
        """Returns the required token; None for none.

        Raises:
            InputError: There is no such file, or no token in it.
        """
        token = os.environ.get(TOKEN_VARIABLE)
        where: Path | str = f"the environment variable {TOKEN_VARIABLE}"
        if self.token_file is not None:
            where = self.token_file
            try:
                with self.token_file.open("rb") as file:
                    token = file.read(_MOST_TOKEN + 1).decode("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"cannot read the token ({error})", where=where) from None
        if token is None:
            return None
        token = token.strip()
        if len(token) > _MOST_TOKEN:
            raise InputError(f"a token has at most {_MOST_TOKEN:,} characters", where=where)
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise InputError(
                "a token must be one line of ASCII letters, digits and punctuation",
                where=where,
                hint='Create one: python -c "import secrets; print(secrets.token_urlsafe())"',
            )
        return token

    def allowed_hosts(self) -> frozenset[str] | None:
        """Returns the allowed host names of requests, in lower case; None for any.

        A page of another site, opened in a browser on this machine, may point its host name here
        (DNS rebinding): its requests then still carry its own host name.
        """
        if self.hosts:
            return frozenset(host.lower() for host in self.hosts)
        if self.host == "localhost" or _is_loopback(self.host):
            return frozenset({"localhost", "127.0.0.1", "[::1]", self.host.lower()})
        return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
