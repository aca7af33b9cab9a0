"""Sources of a corpus, one file each, registered by name.

`detect` selects the source for the argument of the user. A source yields documents, queries and
judgments (`data_prep.dataset.SourceData`); `data_prep.dataset_writer.write_dataset` checks them.
"""

from __future__ import annotations

from pathlib import Path

from data_prep.errors import InputError
from data_prep.registry import import_entries
from data_prep.sources.base import SOURCES, Source, SourceOptions, refuse_unused

import_entries(__name__, __path__)

__all__ = ["SOURCES", "Source", "SourceOptions", "detect"]


def detect(argument: str, options: SourceOptions | None = None) -> Source:
    """Selects and opens the source that `argument` names.

    Args:
        argument: A path (a folder of text, a table, a database, a BEIR folder, TREC files, a
            folder of `datasets`), `-` for standard input, `PREFIX:REST` (`hf:squad`,
            `ir_datasets:beir/scifact/test`, `trec:FILE`, ...) or
            `docstrings`.
        options: Column names and further files; defaults when None.

    Raises:
        InputError: No source accepts it, the file does not exist, or an option was given that the
            source does not use.
    """
    options = options or SourceOptions()
    prefix, colon, rest = argument.partition(":")
    kinds = [SOURCES[name] for name in SOURCES]
    for kind in kinds:
        if colon and prefix == kind.prefix:
            refuse_unused(kind.uses, kind.form, options)
            return kind(rest, options)
    for kind in kinds:
        if kind.accepts(argument):
            refuse_unused(kind.uses, kind.form, options)
            return kind(argument, options)
    problem = (
        "cannot tell the format of this" if Path(argument).exists() else "no such file or folder"
    )
    forms = [kind.form for kind in sorted(kinds, key=lambda kind: kind.place)]
    raise InputError(problem, where=argument, hint="Give one of", choices=forms)
