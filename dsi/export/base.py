"""What all export formats share: the table of identifiers, and the checks before an export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from data_prep.files import refuse_irreplaceable, replacing_named_folder, write_json
from data_prep.registry import Registry
from docids.table import DocidTable
from dsi.hub.address import is_address
from dsi.index import Index
from dsi.index_folder import versions
from dsi.index_folder.versions import Manifest

IDS, NAMES, SETTINGS = "docids.npy", "doc_ids.json", "docids.json"
"""The identifiers, the documents they belong to, and how to read both."""
NOTHING = -1
"""Padding of identifiers that are shorter than the longest."""


@dataclass(frozen=True)
class Exporting:
    """An index that is being exported.

    Attributes:
        index: Held open, on the CPU.
        folder: Where everything is written.
        identifiers: Of the live documents, sorted; int32 [documents, longest], `NOTHING` at the
            end.
        doc_ids: Of the documents, in this order.
    """

    index: Index
    folder: Path
    identifiers: npt.NDArray[np.int32]
    doc_ids: list[str]

    def write_table(self, shift: int = 0, **settings: Any) -> None:
        """Writes the identifiers, the ids of their documents, and how to read both.

        Args:
            shift: What is added to every code.
            settings: What else an engine has to know.
        """
        shifted = np.where(self.identifiers >= 0, self.identifiers + shift, NOTHING)
        np.save(self.folder / IDS, shifted.astype(np.int32))
        write_json(self.folder / NAMES, self.doc_ids)
        write_json(self.folder / SETTINGS, settings)


FORMATS: Registry[Callable[[Exporting], None]] = Registry("format")
"""By name: each writes all files of a format into the folder."""


def export_index(
    path: Path, out: Path, format: str, *, network_only: bool = False
) -> dict[str, Any]:
    """Writes the live version of an index for another engine.

    Args:
        path: The index.
        out: The folder to write; must not exist, or hold an export.
        format: A name in `FORMATS`.
        network_only: Export a network that ranks together with a lexical layer without it.

    Returns:
        The version, how many documents there are, and the names of the files.

    Raises:
        InputError: It is of a kind that the format has no place for, or the folder is in use.
    """
    if out.exists() and not (out / SETTINGS).is_file() and (not out.is_dir() or any(out.iterdir())):
        what = "folder holds other files" if out.is_dir() else "is not a folder"
        raise InputError(f"this {what}", where=out, hint="Choose another folder")
    refuse_irreplaceable(out, _is_ours)
    if not network_only and _has_lexical_layer(path):  # opening a large index takes long
        raise InputError(
            "this index ranks with a lexical layer, which other engines do not support",
            where=path,
            hint="Train with --lexical.enabled false, or export the network alone with "
            "--network_only, which ranks differently",
        )
    index = Index.open(path, "cpu")
    identifiers, doc_ids = sorted_identifiers(index.table)
    same = bool((identifiers[1:] == identifiers[:-1]).all(1).any())
    if same or not index.table.one_each:
        raise InputError(
            "documents share identifiers or have several, but an export needs exactly one "
            "identifier for each",
            where=path,
            hint="Use identifiers that are unique to each document (--collisions extend)",
        )
    with replacing_named_folder(out, _is_ours) as fresh:
        FORMATS[format](Exporting(index, fresh, identifiers, doc_ids))
        files = sorted(file.name for file in fresh.iterdir())
    return {
        "index": str(path),
        "version": index.manifest.version,
        "documents": len(index),
        "format": format,
        "out": str(out),
        "files": files,
    }


def _has_lexical_layer(path: Path) -> bool:
    if is_address(path):
        from dsi.hub.pull import local_copy

        path = local_copy(path)
    folder = versions.folder(path, versions.live(path))
    Manifest.load(folder)
    return (folder / "lexical").is_dir()


def _is_ours(name: str) -> bool:
    """Tells whether an export writes a file of this name; others in its folder are the user's."""
    tokenizer = ("vocab", "merges", "spiece", "sentencepiece", "tokenizer", "special_tokens")
    names = (IDS, NAMES, SETTINGS, "README.md", "config.json", "generation_config.json")
    return name in names or name.startswith(("model", "added_tokens", "chat_template", *tokenizer))


def sorted_identifiers(table: DocidTable) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Returns the identifiers of the live documents in ascending order, and the documents.

    Returns:
        int32 [documents, longest], `NOTHING` behind the end of each, which comes first in the
        order; and the id of each document.
    """
    live = table.live
    matrix = table.matrix(NOTHING)[live]
    matrix = matrix[:, : int((matrix != NOTHING).sum(1).max(initial=1))]
    order = np.lexsort(matrix.T[::-1])
    return matrix[order], [table.doc_ids[row] for row in live[order].tolist()]
