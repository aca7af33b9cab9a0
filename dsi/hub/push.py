"""Pushing an index or a dataset to the hub."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import InputError
from dsi.hub.address import Repository, hub, reporting_problems
from dsi.hub.card import card_of
from dsi.hub.contents import Contents, contents_of


@dataclass(frozen=True)
class Pushed:
    """What a push published or would publish.

    Attributes:
        repository: The repository.
        contents: The contents.
        public: Whether everybody can read the repository; None if that was not queried.
        commit: The commit; None if nothing was pushed.
    """

    repository: Repository
    contents: Contents
    public: bool | None
    commit: str | None


def plan_push(folder: Path, repository: Repository, *, corpus: bool = True) -> Pushed:
    """Tells what a push would publish, without network access.

    Args:
        folder: The folder of an index or of a dataset.
        repository: The target; `dataset` is set according to the folder.
        corpus: Whether the texts of an index would be published.

    Raises:
        InputError: The folder is neither, or damaged.
    """
    contents = contents_of(folder, corpus=corpus)
    is_dataset = contents.manifest is None
    if repository.dataset and not is_dataset:
        raise InputError(
            "this is an index, but the repository is a dataset repository",
            where=folder,
            hint=f"Give {repository.name}",
        )
    place = Repository(repository.name, is_dataset, repository.revision)
    contents.files["README.md"] = card_of(contents, place).encode()
    return Pushed(place, contents, None, None)


def push(
    folder: Path, repository: Repository, *, corpus: bool = True, public: bool = False
) -> Pushed:
    """Publishes an index (its live version) or a dataset, as one commit.

    Files that an earlier push left in the repository are removed in the same commit. Large files
    that were uploaded before an interruption are not sent again.

    Args:
        folder: The folder.
        repository: The target; it is created if it does not exist.
        corpus: Whether to publish the texts of an index.
        public: Whether everybody may read the repository. False makes a new one private, and
            refuses one that is public.

    Raises:
        InputError: The folder is damaged, the repository is public and `public` is False, or the
            hub refuses or cannot be reached.
    """
    plan = plan_push(folder, repository, corpus=corpus)
    place, client = plan.repository, hub()
    with reporting_problems(place):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, errors

        client.create_repo(place.name, repo_type=place.kind, private=not public, exist_ok=True)
        is_public = not client.repo_info(place.name, repo_type=place.kind).private
        if is_public and not public:
            raise InputError(
                f"this repository is public, and would receive {plan.contents.text}",
                where=f"hf://{place}",
                hint="Add --public if that is intended, or make the repository private",
            )
        if place.revision is not None:
            client.create_branch(
                place.name, repo_type=place.kind, branch=place.revision, exist_ok=True
            )
        existing: set[str] = set()
        with contextlib.suppress(errors.EntryNotFoundError):
            existing.update(
                client.list_repo_files(place.name, repo_type=place.kind, revision=place.revision)
            )
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(name, file if isinstance(file, bytes) else str(file))
            for name, file in plan.contents.files.items()
        ]
        old = sorted(name for name in existing - set(plan.contents.files) if _is_pushed_file(name))
        operations += [CommitOperationDelete(name) for name in old]
        commit = client.create_commit(
            place.name,
            operations,
            commit_message=_message(plan.contents),
            repo_type=place.kind,
            revision=place.revision,
        )
    return Pushed(place, plan.contents, is_public, commit.oid)


def _is_pushed_file(name: str) -> bool:
    """Tells whether a file comes from a push."""
    top = name.partition("/")[0]
    return top in ("versions", "corpus", "queries", "qrels", "pseudo")


def _message(contents: Contents) -> str:
    if contents.manifest is not None:
        return f"Version {contents.manifest.version}, {contents.manifest.documents} documents"
    assert contents.dataset is not None
    return f"Dataset {contents.dataset.name}, {contents.dataset.documents} documents"
