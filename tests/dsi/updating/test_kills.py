"""Updates killed with SIGKILL: the previous version keeps answering, and a rerun completes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import growing_corpus
import numpy as np
import pytest
import small

from dsi import Index
from dsi.index_folder import versions
from dsi.updating.options import UpdateOptions

OPTIONS = UpdateOptions(strategy="generative", steps=8, ratio=0.0)
"""With eight steps, there is a checkpoint after each."""


class Alone:
    """What an undisturbed update leaves, how long it takes and how often it asks the disk."""

    def __init__(self, trained: Path, corpora, folder: Path) -> None:
        self.trained, self.new = trained, corpora["new"]
        texts = corpora["full"].query_texts()
        self.asked = [texts[f"test{number}"] for number in range(40)]
        self.before = Index.open(trained, "cpu").search(self.asked, k=3)
        context = small.context()
        for again in range(2):  # the first one also starts the fork server
            index = folder / str(again)
            shutil.copytree(trained, index)
            operations = context.Value("i", 0)
            began = time.monotonic()
            assert self.start(index, operations).exitcode == 0
            self.seconds, self.operations = time.monotonic() - began, operations.value
        self.digest = small.digest(index)
        self.after = Index.open(index, "cpu").search(self.asked, k=3)

    def start(
        self,
        index: Path,
        operations=None,
        last: int | str = 0,
        after: float | None = None,
        full: bool = False,
    ):
        context = small.context()
        operations = operations or context.Value("i", 0)
        child = context.Process(
            target=growing_corpus.update,
            args=(str(index), str(self.new.path), OPTIONS, operations, last, full),
        )
        child.start()
        child.join(after)
        if child.is_alive():
            child.kill()
        child.join()
        return child

    def check_killed(self, index: Path) -> None:
        """The version that is live answers as it always does."""
        answers = Index.open(index, "cpu").search(self.asked, k=3)
        assert answers == (self.before if versions.live(index) == "0001" else self.after)

    def check_finished(self, index: Path) -> None:
        """Running it again has ended where an undisturbed update ends."""
        assert versions.live(index) == "0002"
        assert versions.names(index) == ["0001", "0002"]
        assert small.digest(index) == self.digest
        assert Index.open(index, "cpu").search(self.asked, k=3) == self.after
        assert sorted(entry.name for entry in index.iterdir()) == ["live", "lock", "versions"]


@pytest.fixture(scope="module")
def alone(trained, corpora, tmp_path_factory):
    return Alone(trained("atomic"), corpora, tmp_path_factory.mktemp("alone"))


def kill_at_operations(alone: Alone, folder: Path, places: Sequence[int | str]) -> None:
    for place in places:
        index = folder / "index"
        shutil.copytree(alone.trained, index)
        assert alone.start(index, last=place).exitcode == -9
        alone.check_killed(index)
        assert alone.start(index).exitcode == 0
        alone.check_finished(index)
        shutil.rmtree(index)


@pytest.mark.parametrize(
    "place",
    ["/updating/.docids.new*", "/checkpoints/.00000002.new*", "/versions/.new*", "/.live*"],
    ids=["preparing", "training", "writing", "going-live"],
)
def test_killed_while_something_is_written(alone, place, tmp_path):
    kill_at_operations(alone, tmp_path, [place])


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_at_twenty_random_moments(alone, tmp_path):
    moments = np.random.default_rng(5).uniform(0.05, 1.0, 20) * alone.seconds
    index = tmp_path / "index"
    shutil.copytree(alone.trained, index)
    for moment in moments.tolist():
        alone.start(index, after=moment)
        alone.check_killed(index)
    assert alone.start(index).exitcode == 0
    alone.check_finished(index)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_before_every_tenth_operation_on_the_disk(alone, tmp_path):
    kill_at_operations(alone, tmp_path, list(range(1, alone.operations + 1, 10)))


def fill_up_at_operations(alone: Alone, folder: Path, places: Sequence[int]) -> None:
    for place in places:
        index = folder / "index"
        shutil.copytree(alone.trained, index)
        exitcode = alone.start(index, last=place, full=True).exitcode
        # The very last operations only read and remove files.
        assert exitcode == 1 or (exitcode == 0 and versions.live(index) == "0002")
        alone.check_killed(index)
        assert alone.start(index).exitcode == 0
        alone.check_finished(index)
        shutil.rmtree(index)


def test_a_disk_that_is_full_leaves_the_version_before(alone, tmp_path):
    fill_up_at_operations(alone, tmp_path, [3 * alone.operations // 4])


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_disk_that_is_full_at_every_tenth_operation(alone, tmp_path):
    # Removals do not fail, so fewer operations are counted than by `alone`.
    counted = small.context().Value("i", 0)
    index = tmp_path / "counting"
    shutil.copytree(alone.trained, index)
    assert alone.start(index, counted, full=True).exitcode == 0
    fill_up_at_operations(alone, tmp_path, list(range(1, counted.value + 1, 10)))


def test_killed_while_its_working_folder_is_removed(alone, tmp_path):
    kill_at_operations(alone, tmp_path, ["/.updating.gone*", "checkpoints"])
