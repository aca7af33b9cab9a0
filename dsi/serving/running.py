"""Runs an ASGI application until it is told to stop, then lets it finish pending requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from data_prep.errors import InputError
from dsi.serving.options import ServerOptions

PATIENCE = 10
"""Seconds that pending requests get to finish after the server is told to stop."""
_MOST_HEADERS = 64 << 10


class _Server(uvicorn.Server):
    """Stops at SIGINT and SIGTERM without raising them again: that is a normal exit."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {
            each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the application, too, if a second signal ends the wait for pending requests."""
        await super().shutdown(sockets)
        if self.force_exit:
            for task in self.server_state.tasks:
                task.cancel()
            await self.lifespan.shutdown()


def slow_client_protocol(seconds: float) -> type[H11Protocol]:
    """Returns uvicorn's protocol, with a timeout for slow clients.

    Args:
        seconds: Time limit for a client to send the head of a request and to receive a response.
    """

    class Protocol(H11Protocol):
        _head: asyncio.TimerHandle | None = None
        _full: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            # Head and body are written separately: without this, the body waits about 40 ms for
            # the client's acknowledgment of the head. asyncio sets it only for sockets that name
            # their protocol, which those of `socket.create_server` do not.
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._head = self.loop.call_later(seconds, self._too_slow)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                _cancel(self._head)
                self._head = None
            elif self._head is None:
                self._head = self.loop.call_later(seconds, self._too_slow)

        def connection_lost(self, exc: Exception | None) -> None:
            _cancel(self._head)
            _cancel(self._full)
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._full = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            _cancel(self._full)
            super().resume_writing()

        def _too_slow(self) -> None:
            self._head = None
            if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
                self.transport.write(
                    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n"
                    b"content-length: 0\r\n\r\n"
                )
                self.transport.close()

    return Protocol


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def listening(options: ServerOptions) -> socket.socket:
    """Returns a listening socket, as the options specify.

    Raises:
        InputError: Listening fails or is not permitted.
    """
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(
            f"cannot listen at {options.host} port {options.port} ({str(reason).lower()})",
            hint="Choose another --host or --port, or stop the program that is using it",
        ) from None


def run(app: Any, options: ServerOptions, announce: Callable[[str], None]) -> None:
    """Serves an application until SIGINT or SIGTERM.

    Pending requests are answered before it returns, with status 503 if that takes longer than
    `PATIENCE` or until a second signal; new ones are not accepted.

    Args:
        app: The ASGI application.
        options: Where it listens.
        announce: Called with the address once the server accepts requests.

    Raises:
        InputError: It cannot listen there.
    """
    log_to_standard_error()
    with listening(options) as listener:
        name = f"[{options.host}]" if ":" in options.host else options.host
        announce(f"http://{name}:{listener.getsockname()[1]}")
        config = uvicorn.Config(
            app,
            http=slow_client_protocol(options.limits.seconds),
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=options.limits.connections,
            h11_max_incomplete_event_size=_MOST_HEADERS,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=PATIENCE,
        )
        # Two threads share one interpreter: the one that responds must not wait long for the one
        # that searches.
        sys.setswitchinterval(0.001)
        asyncio.run(_Server(config).serve([listener]))


def log_to_standard_error() -> None:
    """Shows the log of the server, and only errors of uvicorn."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("dsi: %(message)s"))
    for name, level in (("dsi.serving", logging.INFO), ("uvicorn.error", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
