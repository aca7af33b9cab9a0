"""The names under which Python finds this project."""

from __future__ import annotations

import sys
from importlib import metadata

import pytest


@pytest.mark.parametrize("name", ["data_prep", "docids", "dsi"])
def test_no_other_package_has_the_name(name):
    assert set(metadata.packages_distributions().get(name, ())) <= {"dsi-toolkit"}
    assert name not in sys.stdlib_module_names
