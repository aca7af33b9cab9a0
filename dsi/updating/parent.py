"""Checks the parent version, so that a new version cannot inherit damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_prep.errors import InputError
from docids.assignment import Assignment
from dsi.index_folder import versions
from dsi.index_folder.version_files import COPY
from dsi.index_folder.versions import Manifest


def check_parent(folder: Path, manifest: Manifest) -> Assignment:
    """Checks every file of a version, and that its parts belong together.

    Args:
        folder: Folder of the version.
        manifest: Its manifest.

    Returns:
        Its identifiers, with the state needed to assign new ones.

    Raises:
        InputError: A part is missing, damaged or from another version.
    """
    from dsi.backbones.backbone import check_weights, read_config
    from dsi.index import open_identifiers, open_titles

    versions.verify(folder, manifest)
    check_weights(folder / "model" / "model.safetensors")
    read_config(folder / "model")
    table, _ = open_identifiers(folder)
    assignment = Assignment.open(folder / "assignment")
    other = assignment.table
    same = (
        np.array_equal(table.retired, other.retired)
        and np.array_equal(table.codes, other.codes)
        and np.array_equal(table.doc_ids.text, other.doc_ids.text)
        and np.array_equal(table.doc_ids.offsets, other.doc_ids.offsets)
    )
    if not same or manifest.documents != len(table.live) or len(open_titles(folder)) != len(table):
        raise InputError(
            "its identifiers, titles and manifest do not belong to the same version",
            where=folder,
            hint=COPY,
        )
    return assignment
