"""Every configuration is complete, starts with its command, and is accepted by `dsi train`."""

from __future__ import annotations

import json
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from dsi.cli import main

CONFIGS = Path(__file__).parent.parent / "configs"
GRIDS = sorted(CONFIGS.glob("grids/*.yaml"))
FILES = sorted(set(CONFIGS.rglob("*.yaml")) - set(GRIDS))
PAPERS = {
    "dsi", "dsi-qg", "nci", "se-dsi", "dsi-pp", "scaling-100k", "scaling-1m", "scaling-8.8m",
    "ripor-rq", "genret",
}  # fmt: skip


def test_every_paper_has_one():
    assert {file.stem for file in FILES if file.parent.name == "papers"} == PAPERS


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_validates(file, tmp_path, capsys):
    words = ["train", str(tmp_path / "ds"), "--out", str(tmp_path / "index"), "--dry-run", "--json"]
    assert main([*words, "--documents", "1000", "--config", str(file)]) == 0
    plan = json.loads(capsys.readouterr().out)
    if file.stem == "small-corpus":  # its network is not trained
        assert (plan["examples"], plan["proportions"]) == (0, {})
    else:
        assert plan["examples"] > 0
        assert sum(plan["proportions"].values()) == pytest.approx(1)
    assert not (tmp_path / "index").exists()
    assert not (tmp_path / "ds").exists()


@pytest.mark.parametrize(
    ("file", "trainings"), [*zip(GRIDS, (18, 18), strict=True)], ids=lambda value: str(value)[-24:]
)
def test_a_grid_is_one_that_dsi_compare_takes(file, trainings, tmp_path, capsys):
    words = ["compare", str(tmp_path / "ds"), "--out", str(tmp_path / "out"), "--dry_run", "--json"]
    assert main([*words, "--config", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["trainings"] == trainings
    assert f"--config configs/{file.relative_to(CONFIGS).as_posix()}" in file.read_text("utf-8")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_opens_with_the_command_that_runs_it(file):
    text = file.read_text(encoding="utf-8")
    header = text[: re.search(r"^[a-z]", text, re.MULTILINE).start()]
    commands = " ".join(header.replace("\\\n#", " ").split())
    assert f"--config configs/{file.relative_to(CONFIGS).as_posix()}" in commands
    if file.parent.name == "papers":
        assert "Memory: " in header
        assert "Time: " in header
        assert "arXiv" in header or re.search(r"20\d\d\)", header)


@pytest.mark.parametrize("name", ["data_prep", "docids", "dsi"])
def test_no_other_package_has_the_name(name):
    assert set(metadata.packages_distributions().get(name, ())) <= {"dsi-toolkit"}
    assert name not in sys.stdlib_module_names


def test_the_citation_is_that_of_this_version():
    root = Path(__file__).parents[1]
    citation = yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))
    project = (root / "pyproject.toml").read_text("utf-8")
    assert f'version = "{citation["version"]}"' in project.splitlines()
    assert f'license = "{citation["license"]}"' in project.splitlines()
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
