"""`dsi delete`: deletes documents from an index, without training."""

from __future__ import annotations

from pathlib import Path

from data_prep.errors import command_line
from dsi.command_report import Report, TableReport


def delete(
    index: Path,
    doc_id: list[str],
    *,
    file: Path | None = None,
    audit: bool = True,
) -> Report:
    """Deletes documents from an index as a new version, without training.

    Searches stop returning the documents, and the new version drops their texts and titles. It
    keeps their ids, identifiers made of text, their words in the vocabulary, and what the model
    has learned; only an index trained without the documents has none of that. Earlier versions
    keep everything until `dsi prune` removes them. The audit queries the model for the
    deleted documents as if they were still there, and reports how often it would rank them.

    Args:
        index: Index folder.
        doc_id: Document ids.
        file: File with more ids, one per line, spaces included.
        audit: Query the model for the deleted documents.
    """
    from dsi.search.options import read_doc_ids

    named = [*doc_id, *([] if file is None else read_doc_ids(file))]
    _refuse_unknown(index, named)
    from dsi.updating.delete import delete_documents

    done = delete_documents(index, named, audit=audit)
    rows: list[tuple[str, object]] = [
        ("deleted", len(done.doc_ids)),
        ("documents left", done.manifest.documents),
    ]
    if done.audit is not None:
        rows += [
            ("audit: queries for them", done.audit.queries),
            ("audit: the model would rank it first", done.audit.first),
            ("audit: the model would rank it in the first 10", done.audit.ten),
            ("audit: returned by a search now", done.audit.returned),
        ]
    return TableReport(
        data={
            "index": str(index),
            "version": done.manifest.version,
            "deleted": done.doc_ids,
            "documents": done.manifest.documents,
            "audit": None if done.audit is None else vars(done.audit),
        },
        title=f"{index}: version {done.manifest.version} is live",
        columns=("", ""),
        rows=rows,
        closing=(f"to undo: {command_line('rollback', index)}",),
    )


def _refuse_unknown(index: Path, doc_ids: list[str]) -> None:
    """Reports all unknown ids at once, before torch is imported."""
    from docids.store import naming
    from docids.table import DocidTable
    from dsi import versions

    folder = versions.folder(index, versions.live(index)) / "docids"
    table = DocidTable.open(folder)
    with naming(folder):
        table.check()
    table.refuse_unknown(doc_ids)
