"""A small version of the kill campaign; the full counts are in docs/reliability.md."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import kills


def test_what_children_have_imported_before_they_start_is_there():
    own = [name for name in kills.PRELOADED if name.startswith(("dsi", "docids", "data_prep"))]
    assert [name for name in own if importlib.util.find_spec(name) is None] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_command_that_is_killed_loses_or_leaves_anything(capfd):
    code = kills.main(["--kills", "4"])
    told = capfd.readouterr()
    assert code == 0, told.err
    assert told.out.count("4 kills") == len(kills.CASES)
    assert told.out.count(" 0 wrong") == len(kills.CASES)
