"""Every training configuration learns a learnable task, in every precision and engine.

The bf16 loss follows that of fp32, every trainable weight changes, and memorized queries are
answered. Variants, and most cells with two processes, are marked slow.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import learning
import pytest
import small
import torch
from learning import ALONE, TOGETHER, WAYS, Cell, Learned
from two_processes import finish, start

from dsi.indexing.build import train_index
from dsi.training.options import LoopOptions

pytest.importorskip("peft")
pytest.importorskip("deepspeed")

CLOSE = 0.5
"""Largest difference between the losses of a step in two precisions, with a first loss of 17: the
loss of a random network falls fast, which amplifies the rounding of bf16."""


@pytest.fixture(scope="module", autouse=True)
def small_network() -> Iterator[None]:
    with learning.small_network():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("learning")


@pytest.fixture(scope="module")
def learned(dataset, folder):
    """Cell -> what one process without DeepSpeed learned."""

    @cache
    def of(name: str) -> Learned:
        cell = next(cell for cell in ALONE if cell.name == name)
        wanted = learning.options(cell.way, cell.precision, folder, dataset)
        out = folder / name
        train_index(dataset, out, wanted)
        begun = learning.start_of(dataset, folder / f"{name}-start", wanted)
        return learning.outcome(cell.way, dataset, out, begun)

    return of


def assert_learned(found: Learned) -> None:
    assert all(math.isfinite(loss) for loss in found.losses)
    assert found.losses[-1] < found.losses[0] / 4
    assert found.answered == 1.0
    assert not found.still


def assert_follows(found: Learned, expected: Learned, bound: float = CLOSE) -> None:
    gaps = [abs(one - other) for one, other in zip(found.losses, expected.losses, strict=True)]
    assert max(gaps) < bound


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(cell, id=cell.name, marks=(pytest.mark.slow,) if cell.way.variant else ())
        for cell in ALONE
    ],
)
def test_one_process_learns(cell, learned):
    found = learned(cell.name)
    assert_learned(found)
    assert_follows(found, learned(cell._replace(precision="fp32").name))


def test_a_hundred_steps_of_bf16_follow_those_of_fp32(dataset, folder):
    curves = []
    for precision in ("fp32", "bf16"):
        wanted = learning.options(WAYS[0], precision, folder, dataset)
        loop = dataclasses.replace(wanted.loop, steps=100, evaluate_every=100)
        wanted = dataclasses.replace(wanted, loop=loop)
        out = folder / f"hundred-{precision}"
        train_index(dataset, out, wanted)
        curves.append(learning.outcome(WAYS[0], dataset, out, {}).losses)
    gaps = [abs(one - other) for one, other in zip(*curves, strict=True)]
    assert max(gaps) < CLOSE
    assert max(gaps[50:]) < 0.01
    assert curves[1][-1] < 0.01


@pytest.mark.parametrize(
    "name",
    ["plain", "accumulation", "length-buckets", "padded", "sam", "sam-half-a-batch",
     "checkpointing", "lora", "r-drop", "prefix-aware-head"],
)  # fmt: skip
def test_a_bf16_product_reads_weights_as_they_are_now(name, dataset, folder, tmp_path):
    way = next(way for way in WAYS if way.name == name)
    wanted = learning.options(way, "bf16", folder, dataset)
    loop = dataclasses.replace(wanted.loop, steps=4, evaluate_every=4)
    with learning.watched_products() as seen:
        train_index(dataset, tmp_path / "index", dataclasses.replace(wanted, loop=loop))
    (products,) = seen
    assert products.read > 4 * 10
    assert not products.stale


@pytest.mark.parametrize("name", ["plain", "length-buckets", "sam", "lora", "prefix-aware-head"])
def test_bf16_goes_on_from_a_checkpoint_with_the_same_bits(name, dataset, folder, tmp_path):
    way = next(way for way in WAYS if way.name == name)
    wanted = learning.options(way, "bf16", folder, dataset)
    loop: LoopOptions = dataclasses.replace(wanted.loop, steps=9, checkpoint_every=3)
    wanted = dataclasses.replace(wanted, loop=loop)
    train_index(dataset, tmp_path / "whole", wanted)
    operations = small.context().Value("i", 0)
    child = small.context().Process(
        target=learning.train_small_network,
        args=(str(dataset.path), str(tmp_path / "killed"), wanted, operations,
              "/checkpoints/.00000006.new*"),
    )  # fmt: skip
    child.start()
    child.join()
    assert child.exitcode == -9
    train_index(dataset, tmp_path / "killed", wanted)
    assert small.weights(tmp_path / "killed") == small.weights(tmp_path / "whole")


@pytest.fixture(scope="module")
def two(dataset, folder):
    """The folder in which two processes left an index of each quick cell, or of each other one."""
    script = (
        f"import sys; sys.path.insert(0, {str(Path(learning.__file__).parent)!r}); "
        "import learning_on_two; "
        "learning_on_two.main({folder!r}, {dataset!r}, {quick})"
    )

    @cache
    def of(quick: bool) -> Path:
        place = folder / ("quick" if quick else "rest")
        place.mkdir()
        words = script.format(folder=str(place), dataset=str(dataset.path), quick=quick)
        for code, out, err in finish(start(script=words), patience=280 if quick else 2400):
            assert code == 0, (out + err)[-4000:]
        return place

    return of


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(
            cell,
            id=cell.name,
            marks=() if cell.quick else (pytest.mark.slow, pytest.mark.timeout(2500)),
        )
        for cell in TOGETHER
    ],
)
def test_two_processes_learn(cell: Cell, two, learned, dataset, folder):
    place = two(cell.quick)
    for rank in range(2):
        failed = json.loads((place / f"failed-{rank}.json").read_text())
        assert cell.name not in failed, failed[cell.name]
    wanted = learning.options(cell.way, cell.precision, place, dataset)
    begun = learning.start_of(dataset, folder / f"{cell.name}-start", wanted)
    together = learning.outcome(cell.way, dataset, place / cell.name, begun)
    assert_learned(together)
    # Dropout draws different bits in each process, and SAM's fraction different examples.
    bound = CLOSE if cell.precision == "fp32" else 2 * CLOSE
    if not cell.way.changes.get("model__dropout") and "half" not in cell.way.name:
        assert_follows(together, learned(Cell(cell.way, "fp32").name), bound)


def test_the_watch_sees_a_weight_that_is_stale():
    weight = torch.nn.Parameter(torch.randn(8, 24))
    old = weight.detach().bfloat16().T.contiguous()
    with learning.ProductsRead([weight]) as products:
        torch.mm(torch.ones(3, 24).bfloat16(), old)
        with torch.no_grad():
            weight += 1
        torch.mm(torch.ones(3, 24).bfloat16(), old)
    assert (products.read, products.stale) == (2, [(24, 8)])
