"""Files and folders are replaced atomically, and JSON lines are read up to an incomplete one."""

from __future__ import annotations

import errno
import gzip
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.descriptor_lock import make_folder
from data_prep.errors import InputError
from data_prep.files import (
    read_json_lines,
    recover,
    refuse_no_file,
    remove_folder,
    replacing_file,
    replacing_folder,
    replacing_named_folder,
    write_json,
    write_json_lines,
    writing,
    writing_bytes,
)


def test_lines_come_back_in_their_order(tmp_path):
    write_json_lines(tmp_path / "new" / "rows.jsonl", [{"step": 2}, {"step": 1}])
    assert read_json_lines(tmp_path / "new" / "rows.jsonl") == [{"step": 2}, {"step": 1}]


def test_no_file_has_no_lines(tmp_path):
    assert read_json_lines(tmp_path / "rows.jsonl") == []


def test_a_line_that_was_being_written_is_left_out(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_json_lines(tmp_path / "rows.jsonl") == [{"step": 1}]


def test_an_error_while_writing_leaves_what_was_there(tmp_path):
    write_json_lines(tmp_path / "rows.jsonl", [1, 2])
    with pytest.raises(TypeError):
        write_json_lines(tmp_path / "rows.jsonl", [1, object()])
    assert read_json_lines(tmp_path / "rows.jsonl") == [1, 2]
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize("replacing", [replacing_file, replacing_folder])
def test_errors_name_what_the_user_gave_and_not_the_hidden_name_beside_it(replacing, tmp_path):
    with (
        pytest.raises(OSError, match="No space left") as told,
        replacing(tmp_path / "run.trec") as fresh,
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(fresh / "part"))
    assert told.value.filename == str(tmp_path / "run.trec")
    assert list(tmp_path.iterdir()) == []
    missing = tmp_path / "missing"
    with pytest.raises(FileNotFoundError) as other, replacing(tmp_path / "run.trec"):
        missing.read_text()
    assert other.value.filename == str(missing)


def kill_at(step: int, work: Callable[[], object]) -> bool:
    """Does `work` in a child that kills itself before its n-th step on the disk.

    Returns:
        Whether the child was killed; False when it had fewer steps and finished.
    """
    child = os.fork()
    if child == 0:
        taken = 0

        def deadly(plain):
            def call(*args, **kwargs):
                nonlocal taken
                taken += 1
                if taken > step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return plain(*args, **kwargs)

            return call

        for name in ("mkdir", "fsync", "rename", "replace", "rmdir", "unlink"):
            setattr(os, name, deadly(getattr(os, name)))
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def test_a_folder_whose_writer_is_killed_anywhere_is_whole_and_nothing_stays(tmp_path):
    def write(target: Path, text: str) -> None:
        with replacing_folder(target) as fresh:
            for name in ("a", "b"):
                (fresh / name).write_text(text)

    killed, step, moved_aside = True, 0, 0
    while killed:
        parent = tmp_path / str(step)
        target = parent / "ds"
        write(target, "old")
        killed = kill_at(step, lambda target=target: write(target, "new"))
        moved_aside += not target.exists()
        recover(target)
        found = {(target / name).read_text() for name in ("a", "b")}
        assert found in ({"old"}, {"new"})
        assert [entry.name for entry in parent.iterdir()] == ["ds"]
        step += 1
    assert moved_aside, "no kill came between the two renames"
    assert found == {"new"}


def test_a_folder_whose_remover_is_killed_is_there_as_a_whole_or_not_at_all(tmp_path):
    killed, step, outcomes = True, 0, []
    while killed:
        parent = tmp_path / str(step)
        target = parent / "work"
        (target / "deep" / "er").mkdir(parents=True)
        (target / "deep" / "er" / "file").write_text("x")
        killed = kill_at(step, lambda target=target: remove_folder(target))
        outcomes.append(target.exists())
        assert not target.exists() or (target / "deep" / "er" / "file").exists()
        remove_folder(target)
        assert list(parent.iterdir()) == []
        step += 1
    assert outcomes == sorted(outcomes, reverse=True)
    assert outcomes.count(False) > 3, "no kill came while the content was removed"


def test_a_file_whose_writer_is_killed_leaves_nothing_for_the_next(tmp_path):
    target = tmp_path / "run.trec"
    killed, step = True, 0
    while killed:
        killed = kill_at(step, lambda: write_json(target, "new"))
        step += 1
        write_json(target, "next")
        assert [entry.name for entry in tmp_path.iterdir()] == ["run.trec"]


@pytest.mark.parametrize("replacing", [replacing_file, replacing_folder])
def test_what_another_process_is_writing_is_left_alone(replacing, tmp_path):
    target = tmp_path / "out"
    with replacing(target) as fresh:
        if fresh.is_file():
            fresh.write_text("mine")
        child = os.fork()
        if child == 0:
            recover(target)
            os._exit(0)
        os.waitpid(child, 0)
        assert fresh.exists()
    assert target.exists()


def test_names_of_the_users_own_are_not_taken_for_leftovers(tmp_path):
    for name in (".ds.new", ".ds.newest", ".ds2.new-abcdefgh", ".ds.backup-abcdefgh", "ds.new-a"):
        (tmp_path / name).mkdir()
    before = sorted(tmp_path.iterdir())
    with replacing_folder(tmp_path / "ds"):
        pass
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "ds"])


def made(name: str) -> bool:
    return name in ("data", "made.json")


@pytest.fixture
def folder(tmp_path):
    """A folder that we made, with a file of the user's and one of ours in it."""
    (tmp_path / "disk" / "ds").mkdir(parents=True)
    (tmp_path / "disk" / "ds" / "made.json").write_text("old")
    (tmp_path / "disk" / "ds" / "NOTES.txt").write_text("mine")
    return tmp_path / "disk" / "ds"


def content(folder):
    return {file.name: file.read_text() for file in folder.iterdir()}


def replace(folder, text="new"):
    with replacing_named_folder(folder, made) as fresh:
        (fresh / "data").write_text(text)


def test_what_we_did_not_make_stays_in_a_folder_that_is_replaced(folder):
    replace(folder)
    assert content(folder) == {"data": "new", "NOTES.txt": "mine"}
    assert [entry.name for entry in folder.parent.iterdir()] == ["ds"]


def test_what_we_did_not_make_stays_inside_a_folder_of_ours_and_old_data_goes(tmp_path):
    def write(below: Path, *names: str) -> None:
        for name in names:
            (below / name).parent.mkdir(parents=True, exist_ok=True)
            (below / name).write_text(below.name)

    old = tmp_path / "ds"
    write(old, "data/a.arrow", "data/stale.npy", "data/kind/state.json", "data/NOTES.txt")
    write(old, "data/mine/deep/x", "data/deeper/b.json", "data/deeper/why.md")
    (old / "data" / "link").symlink_to("/etc/hostname")
    with replacing_named_folder(old, "data".__eq__) as fresh:
        write(fresh, "data/a.arrow", "data/deeper/b.json")
    left = sorted(str(path.relative_to(old)) for path in old.rglob("*") if not path.is_dir())
    assert left == [
        "data/NOTES.txt",
        "data/a.arrow",
        "data/deeper/b.json",
        "data/deeper/why.md",
        "data/link",
        "data/mine/deep/x",
    ]
    assert (old / "data" / "NOTES.txt").read_text() == "ds"
    assert (old / "data" / "a.arrow").read_text() != "ds"


@pytest.mark.parametrize("step", ["rename", "listdir"])
def test_what_we_did_not_make_survives_a_kill_at_any_rename(folder, monkeypatch, step):
    class Killed(BaseException):
        pass

    for number in range(1, 20):
        left = number
        plain = getattr(os, step)

        def deadly(*arguments, plain=plain):
            nonlocal left
            left -= 1
            if not left:
                raise Killed
            return plain(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(os, step, deadly)
            try:
                replace(folder, str(number))
            except Killed:
                killed = True
            else:
                killed = False
        replace(folder, "again")
        assert content(folder) == {"data": "again", "NOTES.txt": "mine"}
        assert [entry.name for entry in folder.parent.iterdir()] == ["ds"]
        if not killed:
            break
    assert number > 2


def test_a_link_stays_a_link_and_its_folder_is_replaced(folder, tmp_path):
    (tmp_path / "ds").symlink_to("disk/ds")
    replace(tmp_path / "ds")
    assert (tmp_path / "ds").is_symlink()
    assert content(folder) == {"data": "new", "NOTES.txt": "mine"}
    (tmp_path / "dangling").symlink_to("disk/other")
    replace(tmp_path / "dangling")
    assert (tmp_path / "dangling").is_symlink()
    assert content(tmp_path / "disk" / "other") == {"data": "new"}
    assert {entry.name for entry in tmp_path.iterdir()} == {"disk", "ds", "dangling"}


@pytest.mark.parametrize("name", [".", "..", "../../disk/ds", "../../disk"])
def test_the_current_folder_and_those_above_it_are_not_replaced(folder, monkeypatch, name):
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match="current folder"):
        replace(Path(name))
    assert content(folder) == {"made.json": "old", "NOTES.txt": "mine"}
    assert [entry.name for entry in folder.parent.iterdir()] == ["ds"]


def test_a_mount_point_is_not_replaced(folder, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path) == str(folder))
    with pytest.raises(InputError, match="mounted"):
        replace(folder)
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "NOTES.txt")
    with pytest.raises(InputError, match=r"NOTES\.txt: this is a mount point"):
        replace(folder)


def test_a_file_or_a_pipe_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name, told in (("file", "a file"), ("pipe", "a device or pipe"), ("link", "a device")):
        with pytest.raises(InputError, match=f"this is {told}.*, not a folder"):
            replace(tmp_path / name)
        with pytest.raises(InputError, match="not a folder"), replacing_folder(tmp_path / name):
            raise AssertionError("it is refused before anything is written")
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "pipe").is_fifo()
    assert {entry.name for entry in tmp_path.iterdir()} == {"file", "pipe", "link"}


def test_links_that_lead_in_a_circle_are_not_replaced(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(InputError, match="in a circle"):
        replace(tmp_path / "circle")
    assert (tmp_path / "circle").is_symlink()


def test_only_a_file_is_replaced_by_a_file(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    for name, told in (("folder", "a folder"), ("circle", "in a circle")):
        with pytest.raises(InputError, match=told), writing(tmp_path / name):
            pass
    assert sorted(os.listdir(tmp_path)) == ["circle", "folder"]


def test_a_file_below_a_file_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("new/run.trec")
    told = f"no file can be created here, because {tmp_path / 'file'} is not a folder"
    with pytest.raises(InputError, match=told):
        refuse_no_file(tmp_path / "file" / "run.trec")
    for name in ("link", "new/folder/run.trec", "file"):
        refuse_no_file(tmp_path / name)
    for stream in ("-", "/dev/null", "/dev/stdout", "/dev/fd/1"):
        refuse_no_file(stream)
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]


def test_a_file_that_a_link_leads_to_is_replaced(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with writing(tmp_path / "link") as file:
        file.write("new")
        file.flush()
        assert (tmp_path / "real").read_text() == "old"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        with writing(tmp_path / name) as file:
            file.write("said")
        assert os.read(reader, 100) == b"said"
        os.close(reader)
        assert (tmp_path / name).is_fifo()
    assert {entry.name for entry in tmp_path.iterdir()} == {"pipe", "link"}


def test_a_binary_format_goes_through_a_pipe_too(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with writing_bytes(tmp_path / "pipe") as file:
        file.write(b"\xff")
    assert os.read(reader, 100) == b"\xff"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_a_device_stays_a_device():
    with writing("/dev/null") as file:
        file.write("said")
    assert Path("/dev/null").is_char_device()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_a_full_device_is_named(tmp_path):
    (tmp_path / "link").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as told, writing(tmp_path / "link") as file:
        file.write("said")
    assert told.value.filename == str(tmp_path / "link")


def test_an_open_file_named_by_its_number_is_written_on(tmp_path):
    with (tmp_path / "out").open("w") as out:
        out.write("first ")
        out.flush()
        with writing(f"/dev/fd/{out.fileno()}") as file:
            file.write("second ")
        out.write("third")
    assert (tmp_path / "out").read_text() == "first second third"


def test_a_name_that_ends_in_gz_is_gzipped_and_the_same_each_time(tmp_path):
    packed = set()
    for _ in range(2):
        with writing(tmp_path / "run.gz") as file:
            file.write("q Q0 d 1 1 é\n")
        packed.add((tmp_path / "run.gz").read_bytes())
    assert len(packed) == 1
    assert gzip.decompress(packed.pop()).decode() == "q Q0 d 1 1 é\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
@pytest.mark.parametrize("replacing", [replacing_file, replacing_folder])
def test_a_disk_that_is_full_amid_a_file_is_told_with_the_file_that_was_to_be(
    tmp_path, replacing, number
):
    named_no_file = pytest.raises(OSError, match="as write")
    with named_no_file as told, replacing(tmp_path / "table.json"):
        raise OSError(number, "as write() says it")
    assert told.value.filename == str(tmp_path / "table.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="a file system without new files")
@pytest.mark.parametrize("replacing", [replacing_file, replacing_folder])
def test_where_nothing_can_be_created_is_told(replacing):
    refused = pytest.raises(InputError, match="/proc/x: nothing can be created here")
    with refused, replacing("/proc/x"):
        raise AssertionError("created")
    with refused:
        make_folder(Path("/proc/x"))
