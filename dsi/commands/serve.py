"""`dsi serve`: serves an index over HTTP, with a search page."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

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

    versions.live(index)  # fails early, before torch is imported
    server.token()
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
    return TableReport(data={"index": str(index), "version": live.current.version})


def missing(error: ModuleNotFoundError, extra: str) -> Exception:
    """Returns an error for a missing package, or `error` itself if it is a module of ours."""
    if error.name is None or error.name.partition(".")[0] in ("dsi", "docids", "data_prep"):
        return error
    return InputError(f"{error.name} is not installed", hint=f"pip install 'dsi-toolkit[{extra}]'")
