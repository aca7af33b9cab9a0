"""Every benchmark starts from a checkout, as documented: `python benchmarks/NAME.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from two_processes import finish, start

FOLDER = Path(__file__).parents[2] / "benchmarks"
SHARED = ("limit.py", "page_tables.py", "perturbations.py", "record.py", "runs.py", "systems.py")
SCRIPTS = sorted(file.name for file in FOLDER.glob("*.py") if file.name not in SHARED)
PACKAGES = ("data_prep", "docids", "dsi")
CALL = """
import os, runpy, sys
os.chdir({place!r})
sys.path[:] = {path!r}
sys.argv = [{script!r}, "--help"]
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_finds_the_packages_it_measures(script, tmp_path):
    tests = FOLDER.parent / "tests"
    path = [each for each in sys.path if not Path(each).resolve().is_relative_to(tests)]
    path = [str(FOLDER), *(each for each in path if Path(each).resolve() != FOLDER)]
    file = str(FOLDER / script)
    call = CALL.format(place=str(tmp_path), path=path, script=file)
    [(code, out, err)] = finish(start(count=1, script=call))
    assert code == 0, err
    assert out.startswith(f"usage: {script}")


def test_no_file_has_the_name_of_a_package():
    """Python looks first in the folder of the script that it runs."""
    names = {file.stem for file in FOLDER.glob("*.py")}
    assert not names & {*PACKAGES, *sys.stdlib_module_names}
