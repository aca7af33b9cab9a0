"""Locks on open files, and the fallback on systems without them."""

import os
import subprocess
import sys

import pytest

from data_prep.descriptor_lock import folder_lock, lock_descriptor, make_folder, only_writer
from data_prep.errors import InputError

WITHOUT = """
import sys
sys.modules["fcntl"] = None  # as on Windows
from pathlib import Path
from data_prep.errors import InputError
from data_prep.files import read_json, write_json
from dsi.index_folder import versions

file = Path("value.json")
write_json(file, {"a": 1})
write_json(file, {"a": 2})
assert read_json(file) == {"a": 2}
with versions.lock("index"):
    try:
        with versions.lock("index"):
            raise AssertionError("two writers")
    except InputError as error:
        assert "another command is writing to this index: process" in str(error)
with versions.lock("index"):
    pass
"""


def test_one_descriptor_at_a_time(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        first, second = (os.open(path, os.O_RDONLY) for _ in range(2))
        lock_descriptor(first, wait=True)
        with pytest.raises(BlockingIOError):
            lock_descriptor(second, wait=False)
        os.close(first)
        lock_descriptor(second, wait=False)
        os.close(second)


def test_files_and_indexes_are_written_without_them(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", WITHOUT], cwd=tmp_path, env=environment, check=True)


def test_one_process_at_a_time_writes_to_a_folder(tmp_path):
    work = tmp_path / "work"
    with only_writer(work):
        refused = pytest.raises(InputError, match="out: another command is writing here")
        with refused, only_writer(work, "out"):
            raise AssertionError("two writers")
        (work / "file").touch()
    with only_writer(work):  # the lock ends with the block
        pass
    assert (work / "file").exists()


def test_a_folder_that_nothing_was_written_to_is_removed_unless_it_was_there(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("there", "new"):
        with pytest.raises(KeyError), only_writer(tmp_path / name):
            raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_folder_that_its_holder_removed_is_not_locked(tmp_path):
    with pytest.raises(BlockingIOError), folder_lock(tmp_path / "gone"):
        raise AssertionError("locked")


def test_a_link_to_no_folder_gets_its_target(tmp_path):
    (tmp_path / "results").symlink_to("disk/results")
    with only_writer(tmp_path / "results"):
        (tmp_path / "results" / "row").touch()
    assert (tmp_path / "disk" / "results" / "row").is_file()
    assert (tmp_path / "results").is_symlink()
    (tmp_path / "circle").symlink_to("circle")
    for create in (make_folder, lambda folder: only_writer(folder).__enter__()):
        with pytest.raises(InputError, match="links that lead in a circle"):
            create(tmp_path / "circle")
