"""Trained indexes for the tests of this folder."""

import shutil
from pathlib import Path

import growing_corpus
import pytest


@pytest.fixture(scope="session")
def corpora(tmp_path_factory):
    """Datasets: "old" (30 documents with queries) and "new" (10 documents, test queries only)."""
    return growing_corpus.write(tmp_path_factory.mktemp("growing"))


@pytest.fixture(scope="session")
def trained(corpora, tmp_path_factory):
    """Kind of identifier -> an index of the old documents, trained when first asked for.

    With `lexical=False`, its network has no lexical layer beside it.
    """
    folder = tmp_path_factory.mktemp("trained")

    def of(kind, lexical=True):
        out = folder / (kind if lexical else f"{kind}-network")
        if not out.exists():
            growing_corpus.train(corpora["old"], out, kind, lexical=lexical)
        return out

    return of


@pytest.fixture
def index(trained, tmp_path):
    """A copy of the atomic index, to be changed."""
    return Path(shutil.copytree(trained("atomic"), tmp_path / "index"))


@pytest.fixture
def network_index(trained, tmp_path):
    """A copy of the atomic index without a lexical layer, to be changed."""
    return Path(shutil.copytree(trained("atomic", lexical=False), tmp_path / "network"))


@pytest.fixture
def semantic_index(trained, tmp_path):
    """A copy of the semantic index, to be changed."""
    return Path(shutil.copytree(trained("semantic"), tmp_path / "semantic"))
