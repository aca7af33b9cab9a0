"""Shared by tests of commands: runs `dsi` in two processes, as torchrun does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from two_processes import finish, start


@pytest.fixture
def in_two_processes() -> Callable[[list[str]], str]:
    """Runs a command line in two processes, and returns what the first of them prints."""

    def run(words: list[str]) -> str:
        (code, printed, err), (other_code, other, other_err) = finish(start(*words), patience=800)
        assert code == 0, err
        assert other_code == 0, other_err
        assert not other, "the second process printed something"
        return printed

    return run
