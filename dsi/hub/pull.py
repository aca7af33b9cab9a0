"""Pulling an index or a dataset from the hub, and opening one by its address.

A revision is first resolved to a commit, and every file comes from that commit. Files are
downloaded to a hidden folder next to the target, where an interrupted pull resumes. They are
checked like any index from elsewhere, and only then renamed to the target.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from data_prep.dataset import Dataset
from data_prep.descriptor_lock import folder_lock, make_folder, only_writer
from data_prep.errors import InputError
from data_prep.files import (
    put_in_place,
    recover,
    refuse_irreplaceable,
    replacing_file,
    sync_tree,
    write_json,
)
from data_prep.progress import note
from docids.store import naming
from docids.table import DocidTable
from dsi.hub.address import Repository, hub, reporting_problems
from dsi.index_folder import version_files, versions

_PARTS_OF_INDEX = re.compile(r"live|pt_meta\.json|README\.md|versions/[0-9]{4,18}/.+")
_PARTS_OF_DATASET = re.compile(r"dataset\.json|README\.md|(corpus|queries|qrels|pseudo)/.+")
_ODD = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|\[\]]')
RECORD = "pulled.json"
"""Where a pulled folder comes from."""


@dataclass(frozen=True)
class Pulled:
    """The result of a pull.

    Attributes:
        repository: The source.
        commit: The commit of the files.
        folder: The local folder.
        files: Number of files.
        bytes: Their total size.
    """

    repository: Repository
    commit: str
    folder: Path
    files: int
    bytes: int


def pull(repository: Repository, out: Path) -> Pulled:
    """Downloads an index or a dataset; resumes if run again after an interruption.

    Args:
        repository: The repository, with a revision.
        out: The target folder; it must not exist, or be empty.

    Raises:
        InputError: The folder is not empty, another process is downloading to it, the repository is
            missing or holds something else, a file is damaged, or the hub cannot be reached.
    """
    _refuse_existing(out)
    refuse_irreplaceable(out)
    out = Path(os.path.realpath(out))  # the folder that a link leads to, not the link
    client = hub()
    with reporting_problems(repository):
        info = client.repo_info(
            repository.name,
            repo_type=repository.kind,
            revision=repository.revision,
            files_metadata=True,
        )
    commit = str(info.sha)
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise InputError(
            f"the hub did not return a commit: {commit!r:.60}", where=f"hf://{repository}"
        )
    sizes = {file.rfilename: int(file.size or 0) for file in info.siblings or ()}
    files = _published_files(repository, list(sizes))
    staged = _staged(out, commit)
    with only_writer(staged, out):
        _refuse_existing(out)  # a process that held the lock before may have made it
        with reporting_problems(repository):
            client.snapshot_download(
                repository.name,
                repo_type=repository.kind,
                revision=commit,
                local_dir=staged,
                allow_patterns=files,
            )
        shutil.rmtree(staged / ".cache", ignore_errors=True)  # the client's download records
        try:
            _check(staged, repository)
        except InputError:
            shutil.rmtree(staged)
            raise
        write_json(staged / RECORD, {"repository": str(repository), "commit": commit})
        sync_tree(staged)
        if out.is_dir():
            out.rmdir()  # an empty one
        put_in_place(staged, out)
    return Pulled(repository, commit, out, len(files), sum(sizes[name] for name in files))


def _published_files(repository: Repository, names: list[str]) -> list[str]:
    """Returns the files of a repository that belong to an index or a dataset.

    Raises:
        InputError: It holds neither, or a file name leads out of its folder.
    """
    where = f"hf://{repository}"
    if len(names) > version_files.MOST_FILES:
        raise InputError(f"more than {version_files.MOST_FILES:,} files", where=where)
    for name in names:
        if any(part in ("", ".", "..") for part in name.split("/")) or _ODD.search(name):
            raise InputError(
                f"the repository has a file with the name {name!r:.100}, which is not allowed",
                where=where,
            )
    needed, known_parts = ("live", _PARTS_OF_INDEX)
    if repository.dataset:
        needed, known_parts = ("dataset.json", _PARTS_OF_DATASET)
    if needed not in names:
        what = "dataset of dsi-toolkit" if repository.dataset else "index"
        other = "" if repository.dataset else ", or datasets/user/name for a dataset"
        raise InputError(
            f"the repository contains no {what} (it has no file {needed!r})",
            where=where,
            hint=f"Choose one that was created by dsi push{other}",
        )
    return [name for name in names if known_parts.fullmatch(name)]


def _refuse_existing(out: Path) -> None:
    """Raises InputError if there is something at the target already, other than an empty folder."""
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise InputError("the folder exists already", where=out, hint="Choose a new folder")


def _staged(out: Path, commit: str) -> Path:
    """Returns the folder to which a pull of a commit downloads its files.

    Folders of other commits are removed, unless a process is downloading to them.
    """
    make_folder(out.parent)
    recover(out)
    before = f".{out.name}.pull-"
    for name in os.listdir(out.parent):
        if name.startswith(before) and name != f"{before}{commit}":
            with contextlib.suppress(OSError), folder_lock(out.parent / name):
                shutil.rmtree(out.parent / name, ignore_errors=True)
    return out.parent / f"{before}{commit}"


def _check(folder: Path, repository: Repository) -> None:
    """Checks every downloaded file, like those of any index or dataset from elsewhere.

    Raises:
        InputError: Something is missing, damaged, or not part of an index or dataset.
    """
    version_files.walk(folder)
    if repository.dataset:
        Dataset.open(folder)
        return
    version = versions.folder(folder, versions.live(folder))
    manifest = versions.Manifest.load(version)
    versions.verify(version, manifest)
    table = DocidTable.open(version / "docids")
    with naming(version / "docids"):
        table.check()


def local_copy(address: str | os.PathLike[str]) -> Path:
    """Returns the folder of an index on the hub, downloading it on first use.

    Copies are kept in the folder `dsi-toolkit` of the hub's cache (HF_HOME), one per commit. If the
    hub cannot be reached, the last known commit of the revision is used.

    Args:
        address: `hf://user/name`, or `hf://user/name@revision`.

    Raises:
        InputError: There is no such index, or there is no copy of it and the hub cannot be reached.
    """
    repository = Repository.parse(os.fspath(address))
    client = hub()
    from huggingface_hub.constants import HF_HOME

    cache = Path(HF_HOME) / "dsi-toolkit" / repository.name.replace("/", "--")
    mark = cache / f"{(repository.revision or 'main').replace('/', '--')}.revision"
    try:
        with reporting_problems(repository):
            info = client.repo_info(
                repository.name, repo_type=repository.kind, revision=repository.revision
            )
        commit = str(info.sha)
    except InputError as error:
        commit = mark.read_text(encoding="utf-8").strip() if mark.is_file() else ""
        if "cannot be reached" not in str(error) or not (cache / commit / "live").is_file():
            raise
        note(
            f"the hub cannot be reached; using the local copy of hf://{repository}, "
            f"commit {commit[:12]}"
        )
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".lock"):  # processes that open the index at the same time share the copy
        if not (cache / commit).is_dir():
            pull(Repository(repository.name, repository.dataset, commit), cache / commit)
        if not mark.is_file() or mark.read_text(encoding="utf-8").strip() != commit:
            with replacing_file(mark) as fresh:
                fresh.write_text(f"{commit}\n", encoding="utf-8")
    return cache / commit
