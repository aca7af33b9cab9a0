"""Every benchmark starts from a checkout, as documented: `python benchmarks/NAME.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SHARED = ("limit.py", "page_tables.py", "perturbations.py", "record.py", "runs.py", "systems.py")
SCRIPTS = sorted(file.name for file in FOLDER.glob("*.py") if file.name not in SHARED)
PACKAGES = ("data_prep", "docids", "dsi")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_finds_the_packages_it_measures(script, tmp_path):
    command = [sys.executable, str(FOLDER / script), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {script}")


def test_no_file_has_the_name_of_a_package():
    """Python looks first in the folder of the script that it runs."""
    names = {file.stem for file in FOLDER.glob("*.py")}
    assert not names & {*PACKAGES, *sys.stdlib_module_names}
