"""Shared by tests of the connectors: a small index, trained once."""

from __future__ import annotations

from pathlib import Path

import pytest
from household import DOCUMENTS

import dsi


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory) -> Path:
    """The folder of an index of six documents."""
    folder = tmp_path_factory.mktemp("connectors") / "index"
    dsi.build(DOCUMENTS, folder)
    return folder


@pytest.fixture(scope="session")
def small_index(small_folder) -> dsi.Index:
    return dsi.Index.open(small_folder, "cpu")
