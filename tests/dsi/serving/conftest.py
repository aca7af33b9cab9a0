"""An index and its server, shared by all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_doubles import Server
from small_index import small_index


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The folder of a small index; do not change it."""
    path = tmp_path_factory.mktemp("trained") / "index"
    small_index(path)
    return path


@pytest.fixture(scope="session")
def server(trained) -> Iterator[Server]:
    """A server of the small index that waits a second for slow clients."""
    started = Server(trained, "--limits.seconds", "1", "--access_log", "false")
    yield started
    if started.process.poll() is None:
        started.stop()
