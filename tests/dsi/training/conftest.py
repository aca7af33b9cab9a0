"""Lets the tests of this folder import the helpers beside them, and gives them a corpus."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import small


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Forty documents with training, dev and test queries."""
    return small.write(tmp_path_factory.mktemp("small") / "dataset")


@pytest.fixture(scope="session")
def without_dev(tmp_path_factory):
    """The same documents without dev queries: the last weights of a training are kept."""
    return small.write(tmp_path_factory.mktemp("small") / "without-dev", splits=("train", "test"))


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory):
    """The same documents without any query."""
    return small.write(tmp_path_factory.mktemp("small") / "unlabelled", splits=())
