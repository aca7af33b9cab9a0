"""Every update strategy learns in bf16 what it learns in fp32, with all weights trained.

A small network with random initial weights has memorized thirty documents; ten are added.
Afterwards both are found, the losses in both precisions agree, and the weights that the strategy
trains have changed.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small import with_groups

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

import learning
from growing_corpus import NEW

from dsi import Index
from dsi.data.options import MixOptions
from dsi.index_folder import versions
from dsi.index_folder.stored_corpus import StoredCorpus
from dsi.indexing.build import train_index
from dsi.lexical.options import LexicalOptions
from dsi.training.curves import read_scalars
from dsi.training.options import ModelOptions, OptimizerOptions
from dsi.updating.options import EwcOptions, RankOneOptions, UpdateOptions
from dsi.updating.strategies import STRATEGIES
from dsi.updating.update import update_index

pytest.importorskip("peft")

QUICK = {"finetune", "generative+lora"}
LEAST = {"instant": 0.5, "reindex": 0.3, "episodic": 0.7, "generative+prompts": 0.7}
"""Share of the new documents' pseudo-queries answered, where the strategy does not train on them:
`instant` solves for rows alone, `reindex` reads texts, and `episodic` texts and old queries. With
`prompts`, a query whose topic is not recognized reads none."""
FIXED = {"instant", "edit", "generative+frozen-rows", "pamt", "generative+prompts"}
"""Strategies that leave the output rows of old documents as they are."""
CLOSE = 1.0
"""Largest difference between the losses of a step in two precisions, if the first is 10 or more."""


def strategies() -> list[str]:
    """Returns every strategy that learns, joined to `generative` where it cannot stand alone.

    `append` learns nothing: it depends on a warm start, which the indexes of these tests lack.
    """
    return [
        name if STRATEGIES[name].role in ("examples", "all") else f"generative+{name}"
        for name in STRATEGIES
        if name != "append"
    ]


@pytest.fixture(scope="module", autouse=True)
def small_network() -> Iterator[None]:
    with learning.small_network():
        yield


@pytest.fixture(scope="module")
def memorized(corpora, tmp_path_factory):
    """Precision -> an index of the old documents, all of whose weights were trained in it."""
    folder = tmp_path_factory.mktemp("memorized")

    def of(precision: str) -> Path:
        out = folder / precision
        if not out.exists():
            groups = {
                "lexical": LexicalOptions(enabled=False),
                "model": ModelOptions(size="tiny", warm_start="none"),
                "mix": MixOptions(indexing=0, pseudo=0.7, labeled=0.3, negatives="all"),
                "optimizer": OptimizerOptions(lr=2e-3, backbone_lr_scale=1.0, warmup=2),
            }
            changes = {"loop__steps": 60, "loop__batch": 40, "loop__precision": precision}
            train_index(corpora["old"], out, with_groups(groups, changes))
        return out

    return of


def updated(strategy: str, precision: str, memorized, corpora, folder: Path) -> Path:
    index = Path(shutil.copytree(memorized(precision), folder / precision))
    options = UpdateOptions(
        strategy=strategy,
        steps=60,
        ratio=0.5,
        lr=2e-3,
        # Small enough that the test measures whether the update learns.
        ewc=EwcOptions(weight=1.0),
        rank1=RankOneOptions(weight=0.01),
    )
    update_index(index, corpora["new"], options)
    return index


def answered(index: Path) -> tuple[float, float]:
    """Returns the share of the pseudo-queries of old and of new documents that find theirs."""
    memory = StoredCorpus.open(versions.folder(index, versions.live(index)))
    asked = [(doc_id, text) for _, doc_id, text, _ in memory.pseudo_rows()]
    hits = Index.open(index, "cpu").search([text for _, text in asked], k=3)
    right: dict[bool, list[bool]] = {False: [], True: []}
    for (doc_id, _), some in zip(asked, hits, strict=True):
        right[int(doc_id[1:]) in NEW].append(doc_id in [hit.doc_id for hit in some])
    old, new = (sum(each) / len(each) for each in right.values())
    return old, new


def losses(index: Path) -> list[float]:
    folder = versions.folder(index, versions.live(index)) / "log" / "tensorboard"
    return list(read_scalars(folder).get("training/loss", ([], []))[1])


@pytest.mark.parametrize(
    "strategy",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in strategies()],
)
def test_bf16_learns_what_fp32_learns(strategy, memorized, corpora, tmp_path):
    full, half = (
        updated(strategy, precision, memorized, corpora, tmp_path) for precision in ("fp32", "bf16")
    )
    for index in (full, half):
        old, new = answered(index)
        assert new >= LEAST.get(strategy, 0.9), index.name
        # Training on new documents alone forgets old ones, in any precision.
        assert old >= (0.2 if strategy == "finetune" else 0.6), index.name
    before = Index.open(memorized("bf16"), "cpu").model.state_dict()
    after = Index.open(half, "cpu").model.state_dict()
    rows = len(before["lm_head.weight"])
    moved = not before["lm_head.weight"].equal(after["lm_head.weight"][:rows])
    assert moved == (strategy not in FIXED)
    one, other = losses(full), losses(half)
    assert len(one) == len(other)
    assert max((abs(a - b) for a, b in zip(one, other, strict=True)), default=0) < CLOSE


@pytest.mark.parametrize("strategy", ["generative+ewc", "generative+sam", "generative+lora"])
def test_a_bf16_product_of_an_update_reads_weights_as_they_are_now(
    strategy, memorized, corpora, tmp_path
):
    index = Path(shutil.copytree(memorized("bf16"), tmp_path / "index"))
    options = UpdateOptions(strategy=strategy, steps=4, lr=1e-3)
    with learning.watched_products() as seen:
        update_index(index, corpora["new"], dataclasses.replace(options, ratio=0.5))
    assert sum(products.read for products in seen) > 4 * 10
    assert not any(products.stale for products in seen)


def test_the_network_that_is_updated_moves_in_all_its_parts(memorized, corpora, tmp_path):
    before = Index.open(memorized("bf16"), "cpu").model.state_dict()
    index = updated("finetune", "bf16", memorized, corpora, tmp_path)
    after = Index.open(index, "cpu").model.state_dict()
    way = learning.Way("one-code", {"docids": "atomic"})
    for name, value in before.items():
        same = after[name].shape == value.shape and torch.equal(after[name], value)
        assert same is not way.has_gradient(name), name
