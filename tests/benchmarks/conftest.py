"""Benchmarks are scripts, not a package: their folder goes to the end of the path."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture
def results(tmp_path, monkeypatch):
    """An empty record, on a machine that is named without torch."""
    import record

    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(record, "machine", lambda: {"processor": "P", "cores": 2})
    monkeypatch.setattr(record, "versions", lambda: {"python": "3"})
    monkeypatch.setattr(record, "commit", lambda: "abc1234")
    return tmp_path / "results"
