"""`dsi export`: exports an index to other engines."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dsi.command_line.command_report import Report, TableReport


def export(
    index: Path,
    out: Path,
    *,
    format: Literal["hf", "static", "vllm-gr"] = "hf",
    network_only: bool = False,
) -> Report:
    """Writes the live version of an index for another engine.

    hf is a checkpoint of transformers whose added tokens are the codes, with the sorted table of
    identifiers, the ids of their documents, and a README with ten lines that rank as `dsi search`
    does. vllm-gr is such a checkpoint of a language model with a catalog of its identifiers. static
    is the table alone, as an array of codes.

    Args:
        index: Index folder.
        out: Folder to write.
        format: What for: hf (transformers and what reads its checkpoints), vllm-gr, or static
            (engines that take a matrix of identifiers: STATIC, FlashRec, SID-GR).
        network_only: Export the network of an index with a lexical layer without the layer.
    """
    from dsi.export import export_index

    data = export_index(index, out, format, network_only=network_only)
    return TableReport(
        data=data,
        title=f"{out}: version {data['version']} of {index}, {data['documents']:,} documents",
        columns=("", ""),
        rows=[("format", format), ("files", ", ".join(data["files"]))],
        closing=(f"instructions: {out / 'README.md'}",),
    )
