"""The package names and the version of this project."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml


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
