"""`dsi push`: publishes an index or a dataset on the hub."""

from __future__ import annotations

from pathlib import Path

from data_prep.errors import command_line
from dsi.command_line.command_report import Report, TableReport


def push(
    index: Path,
    repo: str,
    *,
    without_corpus: bool = False,
    public: bool = False,
    dry_run: bool = False,
) -> Report:
    """Publishes an index or a dataset on the Hugging Face Hub.

    The live version of an index is published, with the texts of its documents unless
    --without_corpus is given. A new repository is private unless --public is given. Log in first
    with: hf auth login.

    Args:
        index: The folder of the index or dataset.
        repo: The repository, user/name, or user/name@branch.
        without_corpus: Omit texts, queries and word positions. Titles, the vocabulary and the
            weights of each document's words are included; the index can be searched, but not
            updated.
        public: Let everybody read the repository.
        dry_run: Show what would be published, and publish nothing.
    """
    from rich.filesize import decimal

    from dsi.hub.address import Repository
    from dsi.hub.push import plan_push
    from dsi.hub.push import push as publish

    place = Repository.parse(repo)
    corpus = not without_corpus
    outcome = (
        plan_push(index, place, corpus=corpus)
        if dry_run
        else publish(index, place, corpus=corpus, public=public)
    )
    contents, size = outcome.contents, outcome.contents.size
    again = command_line("push", index, repo, *(["--without_corpus"] if without_corpus else []))
    word = "would be published" if dry_run else "published"
    return TableReport(
        data={
            "index": str(index),
            "repository": str(outcome.repository),
            "kind": outcome.repository.kind,
            "commit": outcome.commit,
            "public": outcome.public,
            "files": len(contents.files),
            "bytes": size,
            "text": vars(contents.text),
            "dry_run": dry_run,
        },
        title=f"{index}: {len(contents.files):,} files, {decimal(size)}, {word} as hf://{outcome.repository}",
        columns=("", ""),
        rows=[
            ("text", str(contents.text)),
            ("license", contents.dataset.license if contents.dataset is not None else "unknown"),
            *(
                []
                if outcome.public is None
                else [
                    (
                        "readable by",
                        "everybody" if outcome.public else "you and people you give access",
                    )
                ]
            ),
            *([] if outcome.commit is None else [("commit", outcome.commit)]),
        ],
        closing=(f"to publish it: {again}",)
        if dry_run
        else (
            f"to download it: {command_line('pull', str(outcome.repository), '--out', 'FOLDER')}",
        ),
    )
