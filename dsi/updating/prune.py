"""Pruning: removes old versions of an index and frees the disk space that only they use.

Deletions and some updates hard-link files of the previous version into the new one. The space of
such a file is freed only with the last version that has it, and it is counted once.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import InputError
from data_prep.files import remove_folder
from dsi.index_folder import versions
from dsi.index_folder.versions import Manifest


@dataclass(frozen=True)
class OldVersion:
    """A version to remove.

    Attributes:
        version: Name of the version.
        documents: Number of searchable documents; None if its manifest is damaged.
        created: Creation time; empty if its manifest is damaged.
    """

    version: str
    documents: int | None
    created: str


@dataclass(frozen=True)
class Pruning:
    """The plan or result of pruning.

    Attributes:
        live: The live version, which is kept.
        kept: All kept versions, oldest first.
        removed: Removed versions, oldest first.
        freed: Bytes not shared with any kept version.
    """

    live: str
    kept: list[str]
    removed: list[OldVersion]
    freed: int


def plan_pruning(index: str | os.PathLike[str], keep: int) -> Pruning:
    """Returns what pruning would remove, without removing anything.

    The live version and the `keep` - 1 newest others are kept.

    Args:
        index: The folder of the index.
        keep: How many versions to keep, at least 1.

    Raises:
        InputError: There is no index, or `keep` is less than 1.
    """
    if keep < 1:
        raise InputError(
            f"cannot keep {keep} versions",
            where="--keep",
            hint="Use at least 1 to keep the live version",
        )
    live = versions.live(index)
    others = [name for name in versions.names(index) if name != live]
    gone = others[: max(0, len(others) - (keep - 1))]
    kept = [name for name in versions.names(index) if name not in gone]
    removed = [_described(Path(index), name) for name in gone]
    freed = freed_bytes(versions.folder(index, name) for name in gone)
    return Pruning(live, kept, removed, freed)


def prune_versions(index: str | os.PathLike[str], keep: int) -> Pruning:
    """Removes old versions of an index, the oldest first.

    Each version is renamed before its files are deleted, so that an interruption leaves only
    complete versions. The next command that writes deletes leftovers.

    Args:
        index: The folder of the index.
        keep: How many versions to keep, at least 1; the live one is always kept.

    Returns:
        The removed versions and freed bytes.

    Raises:
        InputError: There is no index, `keep` is less than 1, another command writes to the index,
            or a version cannot be removed.
    """
    plan_pruning(index, keep)  # refuses before the lock creates a folder
    with versions.lock(index) as writer:
        plan = plan_pruning(index, keep)
        writer.remember(versions.names(index)[-1])  # its number must not be reused
        for old in plan.removed:
            folder = versions.folder(index, old.version)
            remove_folder(folder)
            if folder.exists():
                raise InputError("this version cannot be removed", where=folder)
    return plan


def freed_bytes(folders: Iterable[str | os.PathLike[str]]) -> int:
    """Returns the bytes that removing folders frees: files without hard links elsewhere.

    Args:
        folders: The folders; symbolic links are not followed.
    """
    names: dict[tuple[int, int], int] = {}
    files: dict[tuple[int, int], os.stat_result] = {}
    for status in _files(folders):
        place = (status.st_dev, status.st_ino)
        names[place] = names.get(place, 0) + 1
        files[place] = status
    return sum(status.st_size for place, status in files.items() if names[place] >= status.st_nlink)


def used_bytes(folder: str | os.PathLike[str]) -> int:
    """Returns the bytes of the files in a folder; hard links are counted once."""
    return sum({(one.st_dev, one.st_ino): one.st_size for one in _files([folder])}.values())


def _files(folders: Iterable[str | os.PathLike[str]]) -> Iterable[os.stat_result]:
    for folder in folders:
        for inside, _, names in os.walk(folder):
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # removed by another command
                    status = os.lstat(os.path.join(inside, name))
                    if stat.S_ISREG(status.st_mode):
                        yield status


def _described(index: Path, version: str) -> OldVersion:
    try:
        manifest = Manifest.load(versions.folder(index, version))
    except InputError:
        return OldVersion(version, None, "")
    return OldVersion(version, manifest.documents, manifest.created)
