"""The versions of an index: which exist, which one is live, and how a new one is created.

    INDEX/live               the name of the live version, replaced by one rename
    INDEX/lock               held by the one process that writes; says which one that is
    INDEX/versions/0001/     a complete version, never changed again
    INDEX/versions/newest    the highest number of a version that has been live
    INDEX/versions/.new-*    a version being written, or left over from a writer that was killed
    INDEX/.rollback          what a rollback goes to, while it does

A reader reads `live` once and then holds that version. A version is created by renaming its folder
and goes live by renaming the pointer, in this order and each after its content is on disk, so that
a kill at any moment leaves the previously live version. A complete version above `newest` is one
whose writer was killed between the two: the next writer makes it live before doing anything else.
`newest` also keeps a number from being reused after the folder of its version is gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from data_prep.descriptor_lock import folder_lock, make_folder
from data_prep.errors import InputError, command_line
from data_prep.files import (
    is_leftover,
    read_json,
    recover,
    replacing_file,
    sync,
    sync_tree,
    write_json,
)
from data_prep.progress import note
from dsi.index_folder import version_files

FORMAT = 1
"""The layout of a version folder that this code writes and the newest that it reads."""

_NAME = re.compile(r"[0-9]{4,18}")
_MOST_POINTER = 4096
"""Bytes of the file `live`."""
WORKING_FOLDERS = ("training", "updating")
"""Working folders of commands in an index folder, beside its versions."""
_LIBRARIES = (
    "dsi-toolkit", "torch", "transformers", "tokenizers", "sentencepiece", "safetensors",
    "datasets", "numpy", "scipy", "scikit-learn", "faiss-cpu", "accelerate",
)  # fmt: skip


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def library_versions() -> dict[str, str]:
    """Returns the versions of Python and of the installed libraries that affect the result."""
    installed = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


@dataclass(frozen=True)
class Manifest:
    """What a version is and how it was made; `manifest.json` in its folder.

    Args:
        documents: Number of live documents.
        added: How many of them its parent did not have.
        removed: How many documents of its parent it does not have.
        origin: Where the added documents come from, or what else made this version.
        dataset: Name and content hash of the dataset it was trained on, and how its documents were
            split into passages, if they were.
        configuration: All options that it was made with.
        metrics: Measurements at the end.
        query_length: Maximum query length in tokens; longer queries are truncated.
        beams: Default width of the beam search.
        score: The default document score, as in training: "model" or "constrained".
        libraries: Versions of the libraries that made it.
        created: When, in UTC, ISO 8601.
        version: Its name; set by `Writer.version`.
        parent: The version it is based on, None for a first one; set by `Writer.version`.
        files: The path of each file next to the manifest, except `log/` -> its size and checksum;
            set by `Writer.version`. None for a version written before there were any.
        format: The layout of the folder.
    """

    documents: int
    added: int
    removed: int = 0
    origin: str = ""
    dataset: Mapping[str, Any] = field(default_factory=dict)
    configuration: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    query_length: int = 64
    beams: int = 10
    score: str = "model"
    libraries: Mapping[str, str] = field(default_factory=library_versions)
    created: str = field(default_factory=_now)
    version: str = ""
    parent: str | None = None
    files: Mapping[str, Mapping[str, Any]] | None = None
    format: int = FORMAT

    @property
    def passages(self) -> Mapping[str, int] | None:
        """How its documents were split into passages; None if they were not."""
        cut = self.dataset.get("passages")
        return cut if isinstance(cut, dict) and set(cut) == {"passages", "overlap"} else None

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes `manifest.json` to the folder of a version."""
        write_json(Path(folder) / "manifest.json", dataclasses.asdict(self))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Manifest:
        """Reads `manifest.json` from the folder of a version, and checks the files next to it.

        Every reader of a version starts here. Anything but regular files and folders is refused,
        and sizes are compared with those in the manifest; `verify` compares the contents.

        Raises:
            InputError: It is missing or damaged, its format is newer than `FORMAT`, a value in it
                is invalid, or a file of the version is missing or has another size or type.
        """
        folder = Path(folder)
        file = folder / "manifest.json"
        version_files.refuse_other_than(folder, stat.S_ISDIR)
        content = version_files.read_manifest(file)
        number = content.get("format") if isinstance(content, dict) else None
        if not isinstance(number, int):
            raise InputError("not the manifest of an index", where=file)
        if number > FORMAT:
            raise InputError(
                f"the format is {number}, but this version of dsi-toolkit reads formats up to "
                f"{FORMAT}",
                where=file,
                hint="Install a newer dsi-toolkit",
            )
        required = {entry.name for entry in dataclasses.fields(cls)}
        missing = sorted(required.difference(content, ["files"]))
        if missing:
            raise InputError(f"the manifest does not contain {', '.join(missing)}", where=file)
        for name, makes_sense in _SENSE.items():
            if not makes_sense(content.get(name)):
                value = f"{content.get(name)!r:.60}"
                raise InputError(
                    f"the manifest has an invalid {name}: {value}", where=file, hint=_COPY
                )
        version_files.check_tree(folder, content.get("files"))
        return cls(**{name: content[name] for name in required if name in content})


_COPY = version_files.COPY


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


def _are_dicts(value: Any, names: Collection[str]) -> bool:
    """Tells whether a value is a dict, and so is each of these entries that it has."""
    return isinstance(value, dict) and not any(
        not isinstance(value.get(name, {}), dict) for name in names
    )


_SENSE: Mapping[str, Callable[[Any], bool]] = {
    "documents": _whole(0, 2**31),
    "added": _whole(0, 2**31),
    "removed": _whole(0, 2**31),
    "query_length": _whole(1, 2**20),
    "beams": _whole(1, 2**31),
    "score": _is(str),
    "origin": _is(str),
    "created": _is(str),
    "version": _is(str),
    "dataset": lambda value: (
        isinstance(value, dict)
        and isinstance(value.get("name", ""), str)
        and isinstance(value.get("content_hash", ""), str)
    ),
    "configuration": lambda value: (
        _are_dicts(value, ("options", "update"))
        and _are_dicts(value.get("update", {}), ("claim", "documents"))
        and _are_dicts(value.get("update", {}).get("claim", {}), ("options",))
    ),
    "metrics": _is(dict),
    "libraries": _is(dict),
    "parent": lambda value: (
        value is None or (isinstance(value, str) and bool(_NAME.fullmatch(value)))
    ),
    "files": lambda value: value is None or version_files.are_records(value),
}
"""Checks of the values of a manifest's entries."""


def verify(
    folder: str | os.PathLike[str], manifest: Manifest, parts: Collection[str] | None = None
) -> int:
    """Compares the files of a version with the checksums in its manifest.

    Args:
        folder: Folder of the version.
        manifest: Its manifest.
        parts: Names of the folders in it to compare; None for all of them.

    Returns:
        How many files were compared; 0 if the manifest has no checksums.

    Raises:
        InputError: A file has changed since it was written.
    """
    return version_files.check_content(Path(folder), manifest.files, parts)


def live(index: str | os.PathLike[str]) -> str:
    """Returns the name of the live version.

    Raises:
        InputError: The folder is missing or not an index, or its pointer is dangling.
    """
    index = Path(index)
    pointer = index / "live"
    if not index.is_dir():
        problem = "a file, not an index folder" if index.is_file() else "no such index folder"
        raise InputError(problem, where=index, hint="Create an index with dsi train")
    version_files.refuse_other_than(index / "versions", stat.S_ISDIR)
    try:
        name = version_files.read_text(pointer, _MOST_POINTER).strip()
    except FileNotFoundError:
        if (index / "dataset.json").is_file():
            raise InputError(
                "a dataset, not an index",
                where=index,
                hint=f"Train one: {command_line('train', index, '--out', 'INDEX')}",
            ) from None
        raise InputError(
            "not an index, or its first version is not finished (the file 'live' is missing)",
            where=index,
            hint="Create one with dsi train, or run dsi train again to finish it",
        ) from None
    wrong = None
    if not _NAME.fullmatch(name):
        wrong = f"does not name a version: {name[:40]!r}"
    elif not folder(index, name).is_dir():
        wrong = f"names version {name}, which is missing"
    if wrong is not None:
        complete = names(index)
        choose = ""
        if complete:
            back = command_line("rollback", Path(index), "--to", complete[-1])
            choose = f", or choose a version: {back}"
        raise InputError(wrong, where=pointer, hint=f"Copy the whole index again{choose}")
    return name


def folder(index: str | os.PathLike[str], version: str) -> Path:
    """Returns the folder of a version."""
    return Path(index) / "versions" / version


def names(index: str | os.PathLike[str]) -> list[str]:
    """Returns the names of all complete versions, oldest first; empty if there are none."""
    folder = Path(index) / "versions"
    version_files.refuse_other_than(folder, stat.S_ISDIR)
    try:
        entries = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted((name for name in entries if _NAME.fullmatch(name)), key=int)


def all(index: str | os.PathLike[str]) -> list[Manifest]:
    """Returns the manifests of all complete versions, oldest first."""
    return [Manifest.load(folder(index, name)) for name in names(index)]


@contextlib.contextmanager
def lock(index: str | os.PathLike[str]) -> Iterator[Writer]:
    """Makes the caller the only writer of an index and yields its `Writer`.

    The lock is released with the block or the process, however that ends. Partial output of an
    earlier writer is removed, and a complete version that it left is made live.

    Raises:
        InputError: Another process is writing to this index; the message says which.
    """
    index = Path(index)
    make_folder(index)
    file = index / "lock"
    with contextlib.ExitStack() as held:
        _refuse_links(index)
        try:
            # So that removing the file by hand does not release the index.
            held.enter_context(folder_lock(index))
            _detach(file)
            held.enter_context(FileLock(file, timeout=0))
        except (Timeout, BlockingIOError):
            holder = ""
            with contextlib.suppress(FileNotFoundError):
                holder = file.read_text(encoding="utf-8", errors="replace").strip()
            raise InputError(
                f"another command is writing to this index: {holder or 'another process'}",
                where=index,
                hint="Wait until it ends, or stop it, and run this again",
            ) from None
        _write_holder(file, f"process {os.getpid()} on {socket.gethostname()} since {_now()}")
        try:
            writer = Writer(index)
            writer.clean()
            yield writer
        finally:
            with contextlib.suppress(FileNotFoundError, InputError):
                _write_holder(file, "")


def _refuse_links(index: Path) -> None:
    """Refuses an index folder in which a writer could write outside of it.

    Raises:
        InputError: A path to be written is a link, or not a regular file or folder.
    """
    for name in ("live", "lock"):
        version_files.refuse_other_than(index / name, stat.S_ISREG)
    version_files.refuse_other_than(index / "versions", stat.S_ISDIR)
    for name in WORKING_FOLDERS:
        if os.path.lexists(index / name):
            # Weights & Biases keeps links in its folder, which it replaces.
            version_files.walk(index / name, skip=("wandb",))


def _detach(file: Path) -> None:
    """Removes this name of a file that has other hard links: several filelock versions empty it."""
    with contextlib.suppress(FileNotFoundError):
        if file.lstat().st_nlink > 1:
            file.unlink()


def _write_holder(file: Path, text: str) -> None:
    """Writes the lock holder to its file."""
    descriptor = version_files.open_regular(file, os.O_RDWR)
    with os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace") as handle:
        handle.truncate(0)
        handle.write(text)


def clean_up(index: str | os.PathLike[str]) -> None:
    """Cleans up after killed writers, unless one is active or the folder is read-only.

    If there is nothing to clean up, no file is touched.
    """
    index = Path(index)
    with contextlib.suppress(InputError, OSError):
        folders = [folder for folder in (index, index / "versions") if folder.is_dir()]
        hidden = any(entry.name.startswith(".") for each in folders for entry in each.iterdir())
        newest = max(map(int, names(index)), default=0)
        if hidden or newest > Writer(index)._newest():
            with lock(index):
                pass


class Writer:
    """Writes versions of an index; created by `lock`.

    Args:
        index: The folder of the index.

    Attributes:
        finished: The version completed by a killed writer that `clean` made live; None if there was
            none.
    """

    def __init__(self, index: Path) -> None:
        self.index = index
        self.finished: str | None = None
        self.versions = index / "versions"
        self.intent = index / ".rollback"

    def clean(self) -> None:
        """Publishes what a killed writer completed, and removes its partial output."""
        for leftover in (*self.versions.glob(".new-*"), *self.versions.glob(".*.gone-*")):
            shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self.index.glob(".live.*"):
            leftover.unlink(missing_ok=True)
        for name in WORKING_FOLDERS:
            recover(self.index / name)
        for file in (self.intent, self.versions / "newest"):
            recover(file)
        complete = names(self.index)
        if not complete:
            return
        if int(complete[-1]) > self._newest() and (
            (self.versions / "newest").is_file() or not (self.index / "live").is_file()
        ):
            self.make_live(complete[-1])
            self.finished = complete[-1]
        self.remember(complete[-1])

    def _newest(self) -> int:
        """Returns the highest number of a version that has been live; 0 if none is known."""
        try:
            name = (self.versions / "newest").read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return 0
        return int(name) if _NAME.fullmatch(name) else 0

    def remember(self, version: str) -> None:
        """Records that a version has been live."""
        if int(version) > self._newest():
            with replacing_file(self.versions / "newest") as fresh:
                fresh.write_text(f"{version}\n", encoding="utf-8")

    @contextlib.contextmanager
    def version(self, parent: str | None = None) -> Iterator[Path]:
        """Yields an empty folder that becomes the next live version if the block succeeds.

        The block fills the folder and saves a `Manifest` in it. An exception inside the block
        removes the folder and leaves the index unchanged.

        Args:
            parent: The version that the new one is based on; None for one from scratch.

        Raises:
            InputError: There is no such parent.
        """
        if parent is not None and parent not in names(self.index):
            raise InputError(f"no version {parent!r} to update", where=self.index)
        self.versions.mkdir(exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=self.versions))
        fresh.chmod(0o755)
        try:
            yield fresh
            name = f"{max(self._newest(), *map(int, names(self.index)), 0) + 1:04d}"
            manifest = Manifest.load(fresh)
            _remove_leftovers(fresh)
            files = version_files.record(fresh)
            dataclasses.replace(manifest, version=name, parent=parent, files=files).save(fresh)
            sync_tree(fresh)
            os.rename(fresh, self.versions / name)
            sync(self.versions)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        self.make_live(name)
        self.remember(name)
        self.intent.unlink(missing_ok=True)  # no rollback remains to be resumed

    def make_live(self, version: str) -> None:
        """Points the index to a version, in one rename.

        Raises:
            InputError: There is no such version.
        """
        self.check(version)
        with replacing_file(self.index / "live") as fresh:
            fresh.write_text(f"{version}\n", encoding="utf-8")

    def check(self, version: str) -> None:
        """Raises InputError if there is no such version."""
        existing = names(self.index)
        if version not in existing:
            raise InputError(
                f"no version {version!r}",
                where=self.index,
                hint=f"There are: {', '.join(existing)}",
            )


def _remove_leftovers(folder: Path) -> None:
    """Removes partial output of a killed process from what became part of a version."""
    for entry in [*folder.rglob(".*")]:
        if is_leftover(entry.name):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)


def rollback(index: str | os.PathLike[str], to: str | None = None) -> str:
    """Makes an earlier version live again; no version is removed.

    Args:
        index: The folder of the index.
        to: The version to make live; default the parent of the live one.

    Returns:
        The name of the new live version.

    Raises:
        InputError: There is no such version, or the live one has no parent.
    """
    if to is None or not names(index):
        live(index)  # the lock would create a missing folder
    with lock(index) as writer:
        if to is None:
            to = _interrupted(writer.intent, live(index)) or _parent(index)
        writer.check(to)
        # Without it, a rollback killed after its rename would go back one version too far.
        write_json(writer.intent, {"to": to})
        writer.make_live(to)
        writer.intent.unlink()
    return to


def _parent(index: str | os.PathLike[str]) -> str:
    current = live(index)
    parent = Manifest.load(folder(index, current)).parent
    if parent is None:
        raise InputError(
            f"version {current} is live, and there is no version before it",
            where=index,
            hint=f"Give one with --to; available: {', '.join(names(index))}",
        )
    return parent


def _interrupted(intent: Path, live: str) -> str | None:
    """Returns the live version if a rollback to it was killed before reporting it."""
    if not intent.is_file() or read_json(intent) != {"to": live}:
        return None
    note(f"finished an interrupted rollback to version {live}")
    return live
