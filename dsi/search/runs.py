r"""Runs: the ranked documents of queries, in memory and as TREC run files.

A run is `{query_id: {doc_id: score}}`. Documents rank by descending score; ties keep the order in
which the run lists them.

A field of a run file holds no white space. An id with white space is escaped: `\u0020` for a space,
`\u0009` for a tab and so on, and `\u005cu` for a literal `\u`; `read_run` restores the id.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping

import numpy as np

from data_prep.errors import InputError
from data_prep.files import writing
from data_prep.sources.lines import lines
from data_prep.text_processing import as_number

Run = dict[str, dict[str, float]]


def ranked(scores: Mapping[str, float]) -> list[str]:
    """Returns the document ids of one query, best first."""
    return sorted(scores, key=lambda doc_id: -scores[doc_id])


def write_run(
    path: str | os.PathLike[str], run: Mapping[str, Mapping[str, float]], tag: str = "dsi"
) -> None:
    """Writes a TREC run file atomically; gzipped if its name ends in `.gz`.

    Scores are written as float32 numbers that strictly descend: an equal or indistinguishable
    score is lowered to the next float32. Every program then reads the same ranking, however it
    treats ties. A query without documents leaves no line.

    Args:
        path: The file to write; a pipe or device is written to directly.
        run: The run; scores are finite.
        tag: The name of the system, the last field of each line.

    Raises:
        InputError: An id is empty, or the tag is empty or holds white space.
        ValueError: A score is not finite.
    """
    if not tag or tag.split() != [tag]:
        raise InputError(
            f"the run tag {tag!r} is not valid in a TREC run",
            hint="Use a tag that is not empty and has no white space",
        )
    with writing(path) as file:
        for query_id, scores in run.items():
            query = _field(query_id, "query id")
            before = np.float32(np.inf)
            for rank, doc_id in enumerate(ranked(scores), start=1):
                document = _field(doc_id, "document id")
                if not math.isfinite(scores[doc_id]):
                    raise ValueError(f"score {scores[doc_id]} of {doc_id!r} for {query_id!r}")
                score = min(np.float32(scores[doc_id]), np.nextafter(before, np.float32(-np.inf)))
                file.write(f"{query} Q0 {document} {rank} {score:.9g} {tag}\n")
                before = score


def read_run(path: str | os.PathLike[str]) -> Run:
    """Reads a TREC run file: query id, Q0, document id, rank, score and tag in each line.

    The score decides the ranking, as in trec_eval; the rank field is not read. Empty lines are
    skipped. The file may be compressed or in UTF-16, like any other input file.

    Returns:
        The queries in the order of the file, the documents of each best first.

    Raises:
        InputError: There is no such file, it is not text or a damaged gzip file, or a line does not
            have six fields, has a score that is not a finite number, or repeats a document of the
            query.
    """
    run: Run = {}
    for number, line in lines(path, noun="run file", hint="Write it in UTF-8"):
        fields = line.split()
        if fields:
            _read_line(fields, run, f"{path}, line {number}")
    return {query: {doc: scores[doc] for doc in ranked(scores)} for query, scores in run.items()}


def _read_line(fields: list[str], run: Run, where: str) -> None:
    """Enters one line into `run`."""
    if len(fields) != 6:
        raise InputError(
            f"{len(fields)} fields, but a line of a TREC run has 6",
            where=where,
            hint="Write each line as: query_id Q0 doc_id rank score tag",
        )
    query_id, _, doc_id, _, word, _ = map(_id_of, fields)
    score = as_number(word)
    if score is None or not math.isfinite(score):
        raise InputError(
            f"the score {word!r:.60} is not a finite number",
            where=where,
            hint="Write each line as: query_id Q0 doc_id rank score tag",
        )
    scores = run.setdefault(query_id, {})
    if doc_id in scores:
        raise InputError(
            f"document {doc_id!r:.60} appears twice for query {query_id!r:.60}",
            where=where,
            hint="List each document once per query",
        )
    scores[doc_id] = score


def _field(name: str, noun: str) -> str:
    """Escapes an id for a field of a run file."""
    if not name:
        raise InputError(f"an empty {noun} is not valid in a TREC run")
    return re.sub(
        r"\\u|\s", lambda found: "\\u005cu" if found[0] == "\\u" else _escaped(found[0]), name
    )


def _escaped(character: str) -> str:
    return f"\\u{ord(character):04x}"


def _id_of(field: str) -> str:
    """Restores the id from a field of a run file."""
    return re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), field)
