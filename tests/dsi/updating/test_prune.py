"""Pruning: removes old versions, never the live one, and exactly those it reports."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from small_versions import add_version, kill_at, write_version

from data_prep.errors import InputError
from dsi import cli
from dsi.index_folder import versions
from dsi.index_folder.versions import Manifest
from dsi.updating.prune import freed_bytes, plan_pruning, prune_versions, used_bytes


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index of five versions, each from the one before."""
    path = tmp_path / "index"
    for number in range(1, 6):
        add_version(path, f"text {number}", f"{number - 1:04d}" if number > 1 else None)
    return path


@pytest.mark.parametrize(
    ("live", "keep", "left"),
    [
        ("0005", 1, ["0005"]),
        ("0005", 3, ["0003", "0004", "0005"]),
        ("0005", 5, ["0001", "0002", "0003", "0004", "0005"]),
        ("0005", 9, ["0001", "0002", "0003", "0004", "0005"]),
        ("0002", 1, ["0002"]),
        ("0002", 2, ["0002", "0005"]),
        ("0001", 3, ["0001", "0004", "0005"]),
    ],
)
def test_the_live_version_and_the_newest_others_stay(index, live, keep, left):
    versions.rollback(index, to=live)
    everything = versions.names(index)
    plan = plan_pruning(index, keep)
    assert versions.names(index) == everything, "a plan removes nothing"
    assert prune_versions(index, keep) == plan
    assert versions.names(index) == left == plan.kept
    assert [old.version for old in plan.removed] == sorted(set(everything) - set(left))
    assert versions.live(index) == live == plan.live
    assert sorted(os.listdir(index / "versions")) == [*left, "newest"]


def test_a_number_is_not_given_again(index):
    versions.rollback(index, to="0001")
    (index / "versions" / "newest").unlink()  # earlier releases wrote none
    prune_versions(index, 1)
    add_version(index, "six", "0001")
    assert versions.names(index) == ["0001", "0006"]


def test_a_file_of_several_versions_is_free_with_the_last_of_them(tmp_path):
    index = tmp_path / "index"
    with write_version(index) as fresh:
        (fresh / "weights").write_bytes(b"w" * 1000)
        (fresh / "own").write_bytes(b"o" * 70)
        Manifest(documents=1, added=1).save(fresh)
    for parent in ("0001", "0002"):
        with write_version(index, parent) as fresh:
            os.link(versions.folder(index, parent) / "weights", fresh / "weights")
            Manifest(documents=1, added=0).save(fresh)
    folders = {name: versions.folder(index, name) for name in versions.names(index)}
    manifests = {
        name: (folder / "manifest.json").stat().st_size for name, folder in folders.items()
    }
    assert plan_pruning(index, 1).freed == 70 + manifests["0001"] + manifests["0002"]
    assert freed_bytes(folders.values()) == 1000 + 70 + sum(manifests.values())
    before = used_bytes(index)
    assert before - prune_versions(index, 1).freed == used_bytes(index)
    assert (folders["0003"] / "weights").read_bytes() == b"w" * 1000


def test_killed_at_any_step_it_leaves_whole_versions_and_is_finished_by_the_next(tmp_path):
    killed, step = True, 0
    while killed:
        index = tmp_path / str(step)
        add_version(index, "one")
        add_version(index, "two", "0001")
        add_version(index, "three", "0002")
        killed = kill_at(step, index, lambda index: prune_versions(index, 1))
        assert versions.live(index) == "0003"
        left = versions.all(index)
        assert [one.origin for one in left] == ["one", "two", "three"][3 - len(left) :]
        for one in left:
            folder = versions.folder(index, one.version)
            assert (folder / "model" / "weights").read_text() == one.origin
        prune_versions(index, 1)
        assert sorted(os.listdir(index / "versions")) == ["0003", "newest"]
        step += 1
    assert step > 10


def test_a_damaged_old_version_can_be_removed_and_nothing_behind_a_link_is(index, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "mine").write_text("mine")
    (versions.folder(index, "0001") / "manifest.json").write_text("junk")
    (versions.folder(index, "0002") / "link").symlink_to(tmp_path / "outside")
    plan = prune_versions(index, 1)
    assert [old.documents for old in plan.removed] == [None, None, 3, 3]
    assert versions.names(index) == ["0005"]
    assert (tmp_path / "outside" / "mine").read_text() == "mine"


@pytest.mark.parametrize("keep", [0, -1])
def test_fewer_than_the_live_version_cannot_be_kept(index, keep):
    with pytest.raises(InputError, match="--keep"):
        prune_versions(index, keep)
    assert len(versions.names(index)) == 5


def test_what_is_no_index_is_told_and_left_alone(tmp_path):
    with pytest.raises(InputError, match="no such index"):
        prune_versions(tmp_path / "none", 1)
    assert not (tmp_path / "none").exists()


def test_another_writer_is_waited_for_by_the_user(index):
    with versions.lock(index), pytest.raises(InputError, match="another command"):
        prune_versions(index, 1)
    assert len(versions.names(index)) == 5


def test_the_command_says_what_goes_and_with_dry_run_nothing_does(index, capsys):
    freed = plan_pruning(index, 2).freed
    assert cli.main(["prune", str(index), "--keep", "2", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "3 versions would be removed" in shown
    assert all(name in shown for name in ("0001", "0002", "0003"))
    assert f"dsi prune {index} --keep 2" in shown
    assert len(versions.names(index)) == 5
    assert cli.main(["prune", str(index), "--keep", "2", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [one["version"] for one in data["removed"]] == ["0001", "0002", "0003"]
    assert (data["kept"], data["live"]) == (["0004", "0005"], "0005")
    assert (data["freed_bytes"], data["dry_run"]) == (freed, False)
    assert cli.main(["prune", str(index), "--keep", "2"]) == 0
    assert "nothing to remove" in capsys.readouterr().out
    assert cli.main(["prune", str(index)]) == 2
    assert "--keep is missing" in capsys.readouterr().err
