"""A separate benchmark record for each test."""

import pytest
import record


@pytest.fixture
def results(tmp_path, monkeypatch):
    """An empty record, on a machine that is named without torch."""
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(record, "machine", lambda: {"processor": "P", "cores": 2})
    monkeypatch.setattr(record, "versions", lambda: {"python": "3"})
    monkeypatch.setattr(record, "commit", lambda: "abc1234")
    return tmp_path / "results"
