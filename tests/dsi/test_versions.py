import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.errors import InputError
from data_prep.files import write_json
from dsi import versions
from dsi.versions import Manifest


def add_version(index: Path, text: str, parent: str | None = None) -> None:
    with versions.write_version(index, parent) as fresh:
        (fresh / "model").mkdir()
        (fresh / "model" / "weights").write_text(text)
        Manifest(documents=3, added=3, origin=text).save(fresh)


def live_content(index: Path) -> str:
    """What a reader finds; fails unless the whole live version is there."""
    folder = versions.folder(index, versions.live(index))
    manifest = Manifest.load(folder)
    assert manifest.version == folder.name
    content = (folder / "model" / "weights").read_text()
    assert content == manifest.origin
    return content


@pytest.fixture
def index(tmp_path: Path) -> Path:
    add_version(tmp_path / "index", "one")
    return tmp_path / "index"


def test_a_version_is_numbered_recorded_and_live(index):
    add_version(index, "two", parent="0001")
    assert versions.names(index) == ["0001", "0002"]
    assert versions.live(index) == "0002"
    first, second = versions.all(index)
    assert (first.version, first.parent) == ("0001", None)
    assert (second.version, second.parent, second.origin) == ("0002", "0001", "two")
    assert "python" in second.libraries
    assert live_content(index) == "two"


def test_a_reader_keeps_the_version_it_opened(index):
    held = versions.folder(index, versions.live(index))
    add_version(index, "two", parent="0001")
    assert (held / "model" / "weights").read_text() == "one"


def test_an_error_while_writing_leaves_the_index_as_it_was(index):
    def fail_halfway():
        with versions.write_version(index) as fresh:
            (fresh / "half").write_text("x")
            raise ZeroDivisionError

    before = sorted(index.rglob("*"))
    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    with pytest.raises(InputError, match="no such file"), versions.write_version(index):
        pass  # a version without a manifest is none
    assert sorted(index.rglob("*")) == before
    assert live_content(index) == "one"


def kill_at(step: int, index: Path) -> bool:
    """Writes version "two" in a child that kills itself before its n-th step towards the disk.

    Returns:
        Whether the child was killed; False when it had fewer steps and finished.
    """
    child = os.fork()
    if child == 0:
        taken = 0

        def deadly(name):
            plain = getattr(os, name)

            def call(*args, **kwargs):
                nonlocal taken
                taken += 1
                if taken > step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return plain(*args, **kwargs)

            setattr(os, name, call)

        for name in ("mkdir", "fsync", "rename", "replace", "rmdir", "unlink"):
            deadly(name)
        try:
            add_version(index, "two", parent="0001")
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def test_a_writer_killed_at_any_step_leaves_a_readable_index_that_can_be_written(tmp_path):
    seen = []
    for step in range(1000):
        index = tmp_path / str(step)
        add_version(index, "one")
        killed = kill_at(step, index)
        seen.append(live_content(index))
        add_version(index, "three", parent="0001")
        assert live_content(index) == "three"
        assert not list(index.glob("versions/.*"))
        assert not list(index.glob(".live*"))
        if not killed:
            break
    assert not killed
    assert len(seen) > 10
    # Before the pointer moves readers find the old version, afterwards the new one.
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == ("one", "two")


def test_a_second_writer_is_told_who_holds_the_index(index):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, dsi.versions as v\n"
            "with v.lock(sys.argv[1]):\n"
            "    print('held', flush=True); sys.stdin.read()",
            str(index),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match=f"process {holder.pid} on"):
            add_version(index, "two")
        with pytest.raises(InputError, match="another command is writing"):
            versions.rollback(index, to="0001")
        assert live_content(index) == "one"  # readers need no lock
    finally:
        holder.kill()
        holder.communicate()
    add_version(index, "two")  # the lock of a killed process is free
    assert live_content(index) == "two"


def test_rollback_goes_to_the_parent_or_to_a_named_version(index):
    add_version(index, "two", parent="0001")
    add_version(index, "three", parent="0002")
    assert versions.rollback(index) == "0002"
    assert live_content(index) == "two"
    assert versions.rollback(index) == "0001"
    with pytest.raises(InputError, match="no version before it"):
        versions.rollback(index)
    assert versions.rollback(index, to="0003") == "0003"
    with pytest.raises(InputError, match=r"no version '7'.*There are: 0001, 0002, 0003"):
        versions.rollback(index, to="7")
    assert live_content(index) == "three"


def test_numbers_are_never_given_twice(index):
    add_version(index, "two", parent="0001")
    versions.rollback(index)
    add_version(index, "three", parent="0001")
    assert versions.live(index) == "0003"


def test_what_is_no_index_is_told(tmp_path, index):
    with pytest.raises(InputError, match="no such index folder"):
        versions.live(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no such index folder"):
        versions.rollback(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="not an index"):
        versions.live(tmp_path / "empty")
    for wrong, message in (("../../x", "names no version"), ("0009", "which is missing")):
        (index / "live").write_text(wrong)
        with pytest.raises(InputError, match=f"{message}.*dsi rollback .* --to 0001"):
            versions.live(index)
        with pytest.raises(InputError, match=message):
            versions.rollback(index)
        assert versions.rollback(index, "0001") == "0001" == versions.live(index)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": versions.FORMAT + 1}, "Install a newer dsi-toolkit"),
        ({"format": None}, "not the manifest of an index"),
        ({"documents": ...}, "lacks documents"),
    ],
)
def test_a_manifest_this_code_cannot_read_is_refused(index, change, message):
    folder = versions.folder(index, "0001")
    content = {**vars(Manifest.load(folder)), **change}
    write_json(folder / "manifest.json", {k: v for k, v in content.items() if v is not ...})
    with pytest.raises(InputError, match=message):
        versions.all(index)
