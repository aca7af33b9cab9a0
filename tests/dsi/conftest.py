"""Corpora and trained indexes for the tests of several folders."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import growing_corpus
import pytest
import small
from two_processes import finish, start

from dsi.data.options import MixOptions
from dsi.indexing.build import train_index
from dsi.lexical.options import LexicalOptions
from dsi.training.options import ModelOptions, OptimizerOptions


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
    return small.write(folder, splits=("train", "test"), labeled=30)


@pytest.fixture(scope="session")
def unlabeled(tmp_path_factory):
    """The same documents without any query."""
    return small.write(tmp_path_factory.mktemp("small") / "unlabeled", splits=())


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


@pytest.fixture(scope="session")
def memorized(corpora, tmp_path_factory):
    """Kind -> an index of the old documents, whose network alone has memorized them."""
    folder = tmp_path_factory.mktemp("memorized")

    def of(kind: str) -> Path:
        out = folder / kind
        if not out.exists():
            groups = {
                "lexical": LexicalOptions(enabled=False),
                "model": ModelOptions(warm_start="none"),
                "mix": MixOptions(indexing=0, pseudo=0.7, labeled=0.3, negatives="all"),
                "optimizer": OptimizerOptions(lr=3e-3, backbone_lr_scale=1.0, warmup=2),
            }
            changes = {"docids": kind, "loop__steps": 50, "loop__batch": 40}
            train_index(corpora["old"], out, small.with_groups(groups, changes))
        return out

    return of


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
