"""`dsi mcp`: serves an index to agents as tools."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Annotated, Literal

from data_prep.errors import InputError
from dsi.command_line.arguments import SPREAD
from dsi.command_line.command_report import Report, TableReport
from dsi.commands.serve import missing, until_stopped
from dsi.serving.options import ServerOptions

_OPTIONS = ServerOptions()


def mcp(
    index: Path,
    *,
    transport: Literal["stdio", "http"] = "stdio",
    server: Annotated[ServerOptions, SPREAD] = _OPTIONS,
) -> Report:
    """Serves an index to agents over the Model Context Protocol.

    The tools are search, get_document and index_info. With --transport stdio, the agent starts this
    command and talks to it over standard streams; with http, agents connect to
    http://HOST:PORT/mcp. When another version becomes live, the server switches to it.

    Args:
        index: Index folder.
        transport: How agents connect.
        server: Server options; with stdio, only limits, batching and device count.
    """
    from dsi.index_folder import versions

    if transport == "stdio":
        _refuse_unused(server)
    version = versions.live(index)  # fails early, before torch is imported
    server.token()
    # A client of standard streams that closes them ends the process without a signal.
    with until_stopped() if transport == "http" else contextlib.nullcontext():
        version = _serve(index, transport, server)
    return TableReport(data={"index": str(index), "version": version})


def _serve(index: Path, transport: Literal["stdio", "http"], server: ServerOptions) -> str:
    """Serves the index until it is told to stop; returns the version served last."""
    try:
        from dsi.serving.agents import PATH, over_http, over_standard_streams, tools
        from dsi.serving.running import log_to_standard_error, run
    except ModuleNotFoundError as error:
        raise missing(error, "mcp") from None
    from dsi.serving.searcher import LiveIndex

    log_to_standard_error()
    live = LiveIndex(index, server.device, server.batch.queries)
    offered = tools(live, server)
    if transport == "stdio":
        over_standard_streams(offered)
    else:
        log = logging.getLogger("dsi.serving")
        run(
            over_http(offered, server),
            server,
            lambda address: log.info(
                "tools for agents at %s%s. Press Ctrl-C to stop", address, PATH
            ),
        )
    return live.current.version


def _refuse_unused(server: ServerOptions) -> None:
    """Raises InputError if an option is given that standard streams have no use for."""
    for name in ("host", "port", "token_file", "hosts", "access_log"):
        if getattr(server, name) != getattr(_OPTIONS, name):
            raise InputError(
                f"--{name} has no effect over standard streams",
                hint="Use --transport http, or omit it",
            )
