"""`dsi serve`: serves an index over HTTP, with a search page."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from data_prep.errors import InputError
from dsi.command_line.arguments import SPREAD
from dsi.command_line.command_report import Report, TableReport
from dsi.serving.options import ServerOptions

_OPTIONS = ServerOptions()


def serve(index: Path, *, server: Annotated[ServerOptions, SPREAD] = _OPTIONS) -> Report:
    """Serves an index over HTTP, with a search page.

    The endpoints are POST /search, GET /documents/ID, /version and /healthz; the page is at /, the
    description of the API at /docs and /openapi.json. When another version becomes live, the server
    switches to it without losing a request. Ctrl-C or SIGTERM stops it gracefully.

    Args:
        index: Index folder.
        server: Server options.
    """
    from dsi.index_folder import versions

    version = versions.live(index)  # fails early, before torch is imported
    server.token()
    with until_stopped():
        version = _serve(index, server)
    return TableReport(data={"index": str(index), "version": version})


def _serve(index: Path, server: ServerOptions) -> str:
    """Serves the index until it is told to stop; returns the version served last."""
    try:
        from dsi.serving.app import application
        from dsi.serving.running import log_to_standard_error, run
    except ModuleNotFoundError as error:
        raise missing(error, "serve") from None
    from dsi.serving.searcher import LiveIndex

    log_to_standard_error()
    live = LiveIndex(index, server.device, server.batch.queries)
    log = logging.getLogger("dsi.serving")

    def announce(address: str) -> None:
        searcher = live.current
        log.info(
            "%s documents of version %s at %s. Press Ctrl-C to stop",
            f"{len(searcher):,}",
            searcher.version,
            address,
        )

    run(application(live, server), server, announce)
    return live.current.version


class _Stopped(BaseException):
    """A signal told the process to stop."""


@contextlib.contextmanager
def until_stopped() -> Iterator[None]:
    """Ends the block, without an error, at SIGINT or SIGTERM.

    This is for the time until the server listens. Then it handles the signals itself, so that
    pending requests are answered.
    """

    def stop(number: int, frame: Any) -> None:
        raise _Stopped

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except _Stopped:
        pass
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def missing(error: ModuleNotFoundError, extra: str) -> Exception:
    """Returns an error for a missing package, or `error` itself if it is a module of ours."""
    if error.name is None or error.name.partition(".")[0] in ("dsi", "docids", "data_prep"):
        return error
    return InputError(f"{error.name} is not installed", hint=f"pip install 'dsi-toolkit[{extra}]'")
