"""`dsi pull`: downloads an index or a dataset from the hub."""

from __future__ import annotations

from pathlib import Path

from data_prep.errors import command_line
from dsi.command_line.command_report import Report, TableReport


def pull(repo: str, *, out: Path) -> Report:
    """Downloads an index or a dataset from the Hugging Face Hub.

    If interrupted, run it again to resume. The download is checked like any other index, and no
    code from it is run.

    Args:
        repo: The repository: user/name for an index, datasets/user/name for a dataset; with
            @revision for a branch, a tag or a commit.
        out: The folder to create.
    """
    from rich.filesize import decimal

    from dsi.hub.address import Repository
    from dsi.hub.pull import pull as download

    outcome = download(Repository.parse(repo), out)
    dataset = outcome.repository.dataset
    next_step = (
        command_line("train", out, "--out", "INDEX")
        if dataset
        else command_line("search", out, "your question")
    )
    return TableReport(
        data={
            "repository": str(outcome.repository),
            "commit": outcome.commit,
            "out": str(out),
            "files": outcome.files,
            "bytes": outcome.bytes,
        },
        title=f"{out}: hf://{outcome.repository} at commit {outcome.commit}",
        columns=("", ""),
        rows=[("files", outcome.files), ("size", decimal(outcome.bytes))],
        closing=(f"next: {next_step}",),
    )
