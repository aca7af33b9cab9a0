import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_versions import add_version, kill_at, write_version

from data_prep.errors import InputError
from data_prep.files import write_json
from dsi.index_folder import versions
from dsi.index_folder.versions import Manifest


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
        with write_version(index) as fresh:
            (fresh / "half").write_text("x")
            raise ZeroDivisionError

    before = sorted(index.rglob("*"))
    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    with pytest.raises(InputError, match="no such file"), write_version(index):
        pass  # a folder without a manifest is not a version
    assert sorted(index.rglob("*")) == before
    assert live_content(index) == "one"


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
    # Before the pointer moves, readers see the old version; afterwards, the new one.
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == ("one", "two")


def test_a_second_writer_is_told_who_holds_the_index(index):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, dsi.index_folder.versions as v\n"
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
    for wrong, message in (("../../x", "does not name a version"), ("0009", "which is missing")):
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
        ({"documents": ...}, "the manifest does not contain documents"),
    ],
)
def test_a_manifest_this_code_cannot_read_is_refused(index, change, message):
    folder = versions.folder(index, "0001")
    content = {**vars(Manifest.load(folder)), **change}
    write_json(folder / "manifest.json", {k: v for k, v in content.items() if v is not ...})
    with pytest.raises(InputError, match=message):
        versions.all(index)


def test_a_number_is_not_given_again_when_the_folder_of_its_version_is_removed(index):
    add_version(index, "two", parent="0001")
    versions.rollback(index)
    shutil.rmtree(versions.folder(index, "0002"))
    add_version(index, "three", parent="0001")
    assert versions.live(index) == "0003"


def test_who_removes_the_file_of_the_lock_does_not_free_the_index(index):
    with versions.lock(index):
        (index / "lock").unlink()
        with pytest.raises(InputError, match="another command is writing"):
            versions.rollback(index, to="0001")
    assert versions.rollback(index, to="0001") == "0001"


def never_made_live(index: Path, text: str, parent: str | None = None) -> None:
    """What a writer leaves that is killed between its two renames."""

    class Killed(BaseException):
        pass

    def kill(self: versions.Writer, version: str) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(versions.Writer, "make_live", kill)
        with pytest.raises(Killed):
            add_version(index, text, parent)


def test_the_next_writer_makes_a_version_live_whose_writer_could_not(index):
    never_made_live(index, "two", parent="0001")
    assert live_content(index) == "one"
    with versions.lock(index):
        pass
    assert live_content(index) == "two"
    # Only then: a rollback remains in effect.
    versions.rollback(index)
    with versions.lock(index):
        pass
    assert live_content(index) == "one"


def test_a_first_version_is_made_live_too(tmp_path):
    never_made_live(tmp_path / "index", "one")
    with versions.lock(tmp_path / "index"):
        pass
    assert live_content(tmp_path / "index") == "one"


def test_an_index_of_an_earlier_release_that_was_rolled_back_stays_so(index):
    add_version(index, "two", parent="0001")
    versions.rollback(index)
    (index / "versions" / "newest").unlink()  # earlier releases wrote none
    with versions.lock(index):
        pass
    assert live_content(index) == "one"
    shutil.rmtree(versions.folder(index, "0002"))
    add_version(index, "three", parent="0001")
    assert versions.live(index) == "0003"


def test_a_rollback_killed_at_any_step_goes_back_one_version_when_run_again(tmp_path):
    killed, step = True, 0
    while killed:
        index = tmp_path / str(step)
        add_version(index, "one")
        add_version(index, "two", parent="0001")
        add_version(index, "three", parent="0002")
        killed = kill_at(step, index, versions.rollback)
        assert live_content(index) in ("three", "two")
        if killed and not (live_content(index) == "two" and not (index / ".rollback").exists()):
            assert versions.rollback(index) == "0002"
        assert live_content(index) == "two"
        if killed:
            versions.rollback(index, to="0002")
        assert sorted(entry.name for entry in index.iterdir()) == ["live", "lock", "versions"]
        step += 1
    assert versions.rollback(index) == "0001", "one that has ended is followed by another"


def test_a_rollback_that_was_killed_says_nothing_about_later_ones(index):
    add_version(index, "two", parent="0001")
    add_version(index, "three", parent="0002")
    (index / ".rollback").write_text('{"to": "0002"}')  # killed before its rename
    add_version(index, "four", parent="0003")
    versions.rollback(index, to="0002")
    assert versions.rollback(index) == "0001"


def test_a_version_holds_nothing_that_was_left_half_written(index):
    with write_version(index, "0001") as fresh:
        (fresh / "model" / ".text.new-abcdefgh").mkdir(parents=True)
        (fresh / "model" / ".dataset.json.new-abcdefgh").write_text("half")
        (fresh / "model" / "weights").write_text("two")
        Manifest(documents=3, added=3, origin="two").save(fresh)
    found = {entry.name for entry in versions.folder(index, "0002").rglob("*")}
    assert found == {"model", "weights", "manifest.json"}
