"""`dsi delete`: retire documents at once, without training."""

from __future__ import annotations

from pathlib import Path

from data_prep.errors import command_line
from dsi.report import Report, TableReport


def delete(
    index: Path,
    doc_id: list[str],
    *,
    file: Path | None = None,
    audit: bool = True,
) -> Report:
    """Deletes documents from an index, as a new version. Nothing is trained.

    No search returns them any more, and the new version keeps none of their texts and titles.
    Versions before it still do: dsi prune removes them where that matters. What it does keep:
    their ids, identifiers that are text, their words in the vocabulary, and what the model has
    learned; only an index trained without them has none of that. The audit asks the model for the
    deleted documents as if they were still there, and reports how often it would rank them.

    Args:
        index: The folder of the index.
        doc_id: Ids of the documents.
        file: A file with more ids, one a line, each with the blanks that belong to it.
        audit: Ask the model for the deleted documents.
    """
    from dsi.search.options import read_doc_ids
    from dsi.updating.delete import delete_documents

    named = [*doc_id, *([] if file is None else read_doc_ids(file))]
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
        closing=(f"back again: {command_line('rollback', index)}",),
    )
