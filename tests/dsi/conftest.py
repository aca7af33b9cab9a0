"""A corpus for the tests of several folders."""

import pytest
import small


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Forty documents with training, dev and test queries."""
    return small.write(tmp_path_factory.mktemp("small") / "dataset")


@pytest.fixture(scope="session")
def without_dev(tmp_path_factory):
    """The same without dev queries, and with training queries for thirty documents.

    The weights of the last step are kept. With dev queries, those of step 0 are: they rank as
    well as any.
    """
    folder = tmp_path_factory.mktemp("small") / "without_dev"
    return small.write(folder, splits=("train", "test"), labelled=30)


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory):
    """The same documents without any query."""
    return small.write(tmp_path_factory.mktemp("small") / "unlabelled", splits=())
