"""Background tasks of a server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from dsi.serving.request_batching import Batcher
from dsi.serving.searcher import Source

POLL = 0.5
"""Seconds between checks of which version is live."""
_LOG = logging.getLogger("dsi.serving")


@contextlib.asynccontextmanager
async def running(batcher: Batcher, source: Source) -> AsyncIterator[None]:
    """Answers requests and switches to new live versions, within the context."""
    await batcher.start()
    following = asyncio.create_task(_follow(source))
    try:
        yield
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await batcher.stop()


async def _follow(source: Source) -> None:
    """Looks for new versions while searches continue."""
    while True:
        await asyncio.sleep(POLL)
        try:
            await asyncio.get_running_loop().run_in_executor(None, source.refresh)
        except Exception:
            _LOG.exception("looking for a new version failed")
