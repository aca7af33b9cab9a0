"""Training that is killed with SIGKILL and resumed ends as if uninterrupted."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import small

from dsi.index_folder import versions
from dsi.lexical.options import LexicalOptions

OPTIONS = {
    name: small.options(
        optimizer__name=name,
        model__dropout=0.1,
        loop__steps=9,
        loop__accumulation=2,
        loop__checkpoint_every=2,
        loop__evaluate_every=1,
        model__warm_start="none",  # so that there is something to learn,
        optimizer__lr=1e-2,  # and later weights are better than the first on every machine
        lexical=LexicalOptions(enabled=False),
    )
    for name in ("adamw", "adafactor")
}
OPTIONS["lexical"] = small.options(loop__steps=4, loop__checkpoint_every=1)
"""With the lexical layer, which is prepared before the first step."""


class Trained:
    """What an undisturbed training leaves, how long it takes and how often it asks the disk."""

    def __init__(self, dataset, out: Path, name: str) -> None:
        self.dataset, self.options = dataset, OPTIONS[name]
        context = small.context()
        for again in range(2):  # the first one also starts the fork server
            shutil.rmtree(out, ignore_errors=True)
            operations = context.Value("i", 0)
            began = time.monotonic()
            assert self.start(out, operations, 0).exitcode == 0, again
            self.seconds, self.operations = time.monotonic() - began, operations.value
        self.digest = small.digest(out)
        self.manifest = versions.Manifest.load(versions.folder(out, "0001"))

    def start(self, out: Path, operations=None, last: int | str = 0, after: float | None = None):
        context = small.context()
        operations = operations or context.Value("i", 0)
        child = context.Process(
            target=small.train,
            args=(str(self.dataset.path), str(out), self.options, operations, last),
        )
        child.start()
        child.join(after)
        if child.is_alive():
            child.kill()
        child.join()
        return child

    def check(self, out: Path) -> None:
        assert small.digest(out) == self.digest
        manifest = versions.Manifest.load(versions.folder(out, versions.live(out)))
        assert manifest.metrics == self.manifest.metrics
        assert sorted(entry.name for entry in out.iterdir()) == ["live", "lock", "versions"]


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """Name of an optimizer -> its undisturbed training, made when first asked for."""
    made: dict[str, Trained] = {}

    def of(name: str) -> Trained:
        if name not in made:
            made[name] = Trained(dataset, tmp_path_factory.mktemp("alone") / name, name)
        return made[name]

    return of


def kill_at_moments(trained: Trained, out: Path, moments: list[float]) -> None:
    """Kills a training again and again, so many seconds after each start."""
    for moment in moments:
        trained.start(out, after=moment)
    assert trained.start(out).exitcode == 0
    trained.check(out)


def kill_at_operations(trained: Trained, folder: Path, places: Sequence[int | str]) -> None:
    """Kills one training each just before an operation on the disk, and continues it."""
    for place in places:
        out = folder / "index"
        assert trained.start(out, last=place).exitcode == -9
        assert trained.start(out).exitcode == 0
        trained.check(out)
        shutil.rmtree(out)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_killed_at_random_moments(trained, name, tmp_path):
    alone = trained(name)
    moments = np.random.default_rng(1).uniform(0.2, 0.9, 2) * alone.seconds
    kill_at_moments(alone, tmp_path / "index", moments.tolist())


@pytest.mark.parametrize(
    "place",
    [
        "/training/.docids.new*",
        "/checkpoints/.00000002.new*",
        "/checkpoints/.00000004.new*",
        "/training/.best.old*",
        "/versions/.new*",
        "training.json",
    ],
    ids=["identifiers", "first-checkpoint", "second-checkpoint", "best", "version", "clearing-up"],
)
def test_killed_while_something_is_written(trained, place, tmp_path):
    kill_at_operations(trained("adamw"), tmp_path, [place])


@pytest.mark.parametrize(
    "place",
    ["/training/.lexical.new*", "/checkpoints/.00000002.new*", "/versions/.new*"],
    ids=["lexical-layer", "checkpoint", "version"],
)
def test_killed_with_a_lexical_layer(trained, place, tmp_path):
    kill_at_operations(trained("lexical"), tmp_path, [place])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_killed_at_twenty_random_moments(trained, name, tmp_path):
    alone = trained(name)
    moments = np.random.default_rng(3).uniform(0.1, 1.0, 20) * alone.seconds
    kill_at_moments(alone, tmp_path / "index", moments.tolist())


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_before_every_third_operation_on_the_disk(trained, tmp_path):
    alone = trained("adamw")
    kill_at_operations(alone, tmp_path, list(range(1, alone.operations + 1, 3)))
