"""`dsi info`: what is in an index."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import command_line
from dsi.report import Report, TableReport

if TYPE_CHECKING:
    from dsi.updating.prune import Pruning
    from dsi.versions import Manifest


def info(index: Path, *, curves: Path | None = None, verify: bool = False) -> Report:
    """Shows what an index holds: versions, documents, identifiers, sizes, metrics.

    Args:
        index: The folder of the index.
        verify: Compare every file of every version with the checksum it was written with.
        curves: Draw the training curves of the live version into this file (PNG, PDF or SVG).
    """
    from rich.filesize import decimal

    from docids.store import naming
    from docids.table import DocidTable
    from dsi import versions
    from dsi.prompted_encoder import prompts_of
    from dsi.updating.prune import plan_pruning, used_bytes

    live = versions.live(index)
    folder = versions.folder(index, live)
    if curves is not None:
        from dsi.training.curves import draw_curves

        draw_curves(folder / "log", curves, f"{index.name}, version {live}")
    manifests = versions.all(index)
    current = next(manifest for manifest in manifests if manifest.version == live)
    compared = {}
    if verify:
        for manifest in manifests:
            compared[manifest.version] = _verified(index, manifest)
    table = DocidTable.open(folder / "docids")
    with naming(folder / "docids"):
        table.check()
    lengths = table.lengths[table.live_identifiers]
    prompts = prompts_of(folder / "text")
    sizes = {part.name: _size(part) for part in sorted(folder.iterdir())}
    total = used_bytes(index)
    prunable = plan_pruning(index, keep=1)
    data = {
        "index": str(index),
        "live": live,
        "documents": len(table.live),
        "retired": int(table.retired.sum()),
        "docids": {
            "kind": table.kind,
            "alphabet": table.alphabet_size,
            "length": {"min": int(lengths.min()), "max": int(lengths.max())},
            "options": table.options,
        },
        **({"prompts": prompts} if prompts else {}),
        "bytes": {**sizes, "total": total, "prunable": prunable.freed},
        "versions": [dataclasses.asdict(manifest) for manifest in manifests],
        **({"verified": compared} if verify else {}),
    }
    facts: dict[str, Any] = {
        "documents": len(table.live),
        "deleted": int(table.retired.sum()),
        "identifiers": f"{table.kind}, {lengths.min()} to {lengths.max()} of "
        f"{table.alphabet_size:,} codes",
        **{
            f"{name} prompt": json.dumps(prompt, ensure_ascii=False)
            for name, prompt in prompts.items()
        },
        "dataset": current.dataset.get("name"),
        "dataset hash": current.dataset.get("content_hash", "")[:12],
        "made": current.created,
        "size": ", ".join(f"{name} {decimal(size)}" for name, size in sizes.items()),
        "size of all versions": decimal(total),
        **{f"metric {name}": value for name, value in _leaves(current.metrics)},
        **{f"option {name}": value for name, value in _leaves(current.configuration)},
    }
    history = [
        f"{'*' if manifest.version == live else ' '} {manifest.version}"
        f"  {manifest.created}  {manifest.documents:,} documents"
        f" (+{manifest.added:,} -{manifest.removed:,})"
        f"{f' from {manifest.parent}' if manifest.parent else ''}  {manifest.origin}".rstrip()
        for manifest in manifests
    ]
    return TableReport(
        data=data,
        title=f"{index}, version {live}",
        columns=("", ""),
        rows=list(facts.items()),
        closing=(
            "",
            "versions (* is live):",
            *history,
            *_told(compared),
            *_freeable(index, prunable),
        ),
    )


def _verified(index: Path, manifest: Manifest) -> int | None:
    """Compares a version with its checksums; the number of files, None where it has none."""
    from dsi import versions
    from dsi.index import open_identifiers, open_titles

    folder = versions.folder(index, manifest.version)
    files = versions.verify(folder, manifest)
    open_identifiers(folder)
    open_titles(folder)
    return None if manifest.files is None else files


def _freeable(index: Path, prunable: Pruning) -> list[str]:
    """Returns a line on what the old versions take, where there are some."""
    from rich.filesize import decimal

    if not prunable.removed:
        return []
    count, freed = len(prunable.removed), decimal(prunable.freed)
    others = "the other version" if count == 1 else f"the {count} other versions"
    return [f"removing {others} frees {freed}: {command_line('prune', index, '--keep', '1')}"]


def _told(compared: Mapping[str, int | None]) -> list[str]:
    """Returns a line on each version that was verified."""
    return [
        f"version {version} was written without checksums: its sizes and values make sense"
        if files is None
        else f"version {version}: {files:,} files are as they were written"
        for version, files in compared.items()
    ]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the values of nested mappings under dotted names."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value) if isinstance(value, list) else value


def _size(path: Path) -> int:
    """Returns the bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
