"""The recipes in the contributor guide: each is executed verbatim, and its result is used."""

from __future__ import annotations

import importlib
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from data_prep.dataset import Document, InMemorySource
from data_prep.dataset_writer import write_dataset
from data_prep.generate import generate_queries
from data_prep.generators import GENERATORS, GeneratorOptions
from data_prep.sources import SOURCES
from docids.assignment import assign
from docids.kinds import KINDS
from dsi.evaluation.baselines import BASELINES
from dsi.objectives.base import OBJECTIVES
from dsi.objectives.loss_terms import make_objectives
from dsi.rows import WARM_STARTS
from dsi.teachers import TEACHERS
from dsi.training.options import OptimizerOptions
from dsi.updating.strategies import STRATEGIES, parse_strategies

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
REGISTRIES = {
    "SOURCES": SOURCES,
    "GENERATORS": GENERATORS,
    "KINDS": KINDS,
    "WARM_STARTS": WARM_STARTS,
    "OBJECTIVES": OBJECTIVES,
    "TEACHERS": TEACHERS,
    "STRATEGIES": STRATEGIES,
    "BASELINES": BASELINES,
}
DOCUMENTS = [
    Document("a", "Two words", "The sea is deep and blue."),
    Document("b", "One", "The sea is deep and wide."),
]


@pytest.fixture
def recipe(monkeypatch):
    """Runs the recipe of a file; what it registers is forgotten after the test."""
    for registry in REGISTRIES.values():
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    def run(file: str) -> None:
        [code] = re.findall(rf"`{file}`:\n\n```python\n(.*?)```", PAGE, re.DOTALL)
        exec(code, {"__name__": file.removesuffix(".py").replace("/", ".")})

    return run


def test_a_kind_of_identifiers(recipe):
    recipe("docids/kinds/opening.py")
    assignment, quality = assign([replace(each, title="") for each in DOCUMENTS], kind="opening")
    assert quality.unique == 1
    assert len(assignment.extend([Document("c", "", "The sea is deep and grey.")]).table) == 3


def test_a_generator(recipe, tmp_path):
    recipe("data_prep/generators/titles.py")
    dataset = write_dataset(tmp_path / "dataset", InMemorySource(DOCUMENTS))
    assert generate_queries(dataset, "titles", GeneratorOptions(per_doc=3)).queries == 3


def test_a_strategy(recipe):
    recipe("dsi/updating/strategies/gentle.py")
    plan = SimpleNamespace(optimizer=OptimizerOptions(lr=0.5))
    [_, gentle] = parse_strategies("generative+gentle")
    gentle.shape(plan)
    assert plan.optimizer.lr == pytest.approx(0.05)


def test_a_term(recipe):
    recipe("dsi/objectives/length.py")
    weights = {"length": 0.5}
    options = SimpleNamespace(weights=weights, length=SimpleNamespace(weight=0.5))
    [term] = make_objectives(options)
    assert term.weight == 0.5
    forward = SimpleNamespace(logits=torch.tensor([[[1.0, 3.0]], [[0.0, 2.0]]]))
    assert term.of_examples(forward) == 5 + 2


def test_the_table_names_what_there_is():
    rows = re.findall(r"^\| (?:a|an) .*\|$", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)}
    assert named == set(REGISTRIES)
    for row in rows:
        for path in re.findall(r"`([a-z_/]+(?:/|\.py))`", row):
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("registry", REGISTRIES)
def test_every_entry_is_in_a_file_of_the_registrys_folder(registry):
    """A new file is found because it is there, not because something names it."""
    folders = re.search(rf"\| ([^|]*) \| [^|]*`{registry}`[^|]* \|", PAGE)[1]
    packages = [folder.strip("/").replace("/", ".") for folder in re.findall(r"`(.*?)`", folders)]
    for package in packages:
        importlib.import_module(package)
    for name in REGISTRIES[registry]:
        entry = REGISTRIES[registry][name]
        home = getattr(entry, "__module__", type(entry).__module__)
        assert home.rpartition(".")[0] in packages, name
