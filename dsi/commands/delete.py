"""`dsi delete`: deletes documents from an index, without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.errors import command_line
from dsi.command_line.command_report import Report, TableReport

if TYPE_CHECKING:
    from dsi.updating.delete import Audit


def delete(
    index: Path,
    doc_id: list[str],
    *,
    file: Path | None = None,
    audit: bool = True,
    scrub: bool = False,
    scrub_steps: int = 0,
) -> Report:
    """Deletes documents from an index, without training.

    The new version no longer returns the documents, and has neither their texts nor their titles.
    It still contains their ids, identifiers made of text, their words in the vocabulary, and what
    the model has learned; only an index trained without the documents contains none of these.
    Earlier versions keep everything until `dsi prune` removes them. The audit searches for the
    deleted documents as if they were still there, and reports how often the model would rank them.

    Args:
        index: Index folder.
        doc_id: Document ids.
        file: File with more ids, one per line, spaces included.
        audit: Query the model for the deleted documents.
        scrub: Remove from the weights what is known to be theirs: the rows of codes that no other
            document has, and what the strategy edit added for their queries. The audit is
            repeated afterwards.
        scrub_steps: Steps that then train the documents away, such as 20, while queries of live
            documents keep their probabilities.
    """
    from dsi.search.options import read_doc_ids

    ids = [*doc_id, *([] if file is None else read_doc_ids(file))]
    from dsi.updating.delete import delete_documents

    outcome = delete_documents(index, ids, audit=audit, scrub=scrub, scrub_steps=scrub_steps)
    rows: list[tuple[str, object]] = [
        ("deleted", len(outcome.doc_ids)),
        ("remaining documents", outcome.manifest.documents),
    ]
    if outcome.audit is not None:
        rows += _rows("audit", outcome.audit)
    if outcome.scrubbed is not None:
        rows += [
            ("scrub: replaced rows of codes", outcome.scrubbed.rows),
            ("scrub: changed edits (positions)", outcome.scrubbed.edited),
            ("scrub: training steps", outcome.scrubbed.steps),
            ("not removed: codes shared with live documents", outcome.scrubbed.shared),
            ("remains", "weights changed by training; ids; words in the vocabulary"),
        ]
    if outcome.after is not None:
        rows += _rows("audit after the scrub", outcome.after)
    return TableReport(
        data={
            "index": str(index),
            "version": outcome.manifest.version,
            "deleted": outcome.doc_ids,
            "documents": outcome.manifest.documents,
            "audit": None if outcome.audit is None else vars(outcome.audit),
            "scrubbed": None if outcome.scrubbed is None else vars(outcome.scrubbed),
            "audit after": None if outcome.after is None else vars(outcome.after),
        },
        title=f"{index}: version {outcome.manifest.version} is live",
        columns=("", ""),
        rows=rows,
        closing=(f"to undo: {command_line('rollback', index)}",),
    )


def _rows(name: str, audit: Audit) -> list[tuple[str, object]]:
    return [
        (f"{name}: queries for the deleted documents", audit.queries),
        (f"{name}: would be ranked first", audit.first),
        (f"{name}: would be ranked in the top 10", audit.ten),
        (f"{name}: returned by a search", audit.returned),
        (f"{name}: queries generated for the audit", audit.own_queries),
        (f"{name}: would be ranked first for these", audit.own_first),
        (f"{name}: would be ranked in the top 10 for these", audit.own_ten),
    ]
