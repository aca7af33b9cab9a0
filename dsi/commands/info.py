"""`dsi info`: shows the contents of an index."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import InputError, command_line
from data_prep.files import read_json
from dsi.command_line.command_report import Report, TableReport

if TYPE_CHECKING:
    from docids.table import DocidTable
    from dsi.index_folder.versions import Manifest
    from dsi.updating.prune import Pruning

_FIGURES = "identifiers"
"""The figures of the identifiers among the metrics of a version."""


def info(
    index: Path,
    *,
    all: bool = False,
    curves: Path | None = None,
    curves_of: str | None = None,
    verify: bool = False,
) -> Report:
    """Shows the versions, documents, sizes and options of an index.

    Options with their default value are omitted unless --all is given.

    Args:
        index: Index folder.
        all: Show all options.
        verify: Compare every file of every version with its checksum.
        curves: File for the training curves: .html or .svg.
        curves_of: Version to draw, such as 0001; all: every version that was trained, one after
            another; default: the live version.
    """
    from rich.filesize import decimal

    from docids.store import naming
    from docids.table import DocidTable
    from dsi.command_line.command_report import heading
    from dsi.index_folder import versions
    from dsi.text_encoders.prompted_encoder import prompts_of
    from dsi.updating.prune import plan_pruning, used_bytes

    live = versions.live(index)
    folder = versions.folder(index, live)
    if curves is not None:
        _draw(index, curves, curves_of or live)
    elif curves_of is not None:
        raise InputError("--curves_of has no effect without --curves", hint="Give --curves FILE")
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
    edits = _edits(folder)
    state_map = _state_map(folder)
    periodic = _periodic_updates(folder)
    pool = _prompt_pool(folder)
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
            "reserve_left": table.reserved,
            "length": {"min": int(lengths.min()), "max": int(lengths.max())},
            "options": table.options,
        },
        **({"prompts": prompts} if prompts else {}),
        **({"edits": edits} if edits else {}),
        **({"state_map": state_map} if state_map else {}),
        **({"periodic_updates": periodic} if periodic else {}),
        **({"prompt_pool": pool} if pool else {}),
        "bytes": {**sizes, "total": total, "prunable": prunable.freed},
        "versions": [dataclasses.asdict(manifest) for manifest in manifests],
        **({"verified": compared} if verify else {}),
    }
    chosen = _options_by_name(current.configuration, everything=all)
    facts: dict[str, Any] = {
        "documents": len(table.live),
        "deleted": int(table.retired.sum()),
        "identifiers": f"{table.kind}, {lengths.min()} to {lengths.max()} of "
        f"{table.alphabet_size:,} codes",
        **_reserve(table, current.configuration),
        **{
            f"{name} prompt": json.dumps(prompt, ensure_ascii=False)
            for name, prompt in prompts.items()
        },
        **({"edits": _edits_line(edits)} if edits else {}),
        **({"output layer reads": _state_map_line(state_map)} if state_map else {}),
        **({"updates by periods": periodic} if periodic else {}),
        **({"prompts before queries": _prompt_pool_line(pool)} if pool else {}),
        "dataset": current.dataset.get("name"),
        "dataset hash": current.dataset.get("content_hash", "")[:12],
        "made": current.created,
        "size": ", ".join(f"{name} {decimal(size)}" for name, size in sizes.items()),
        "size of all versions": decimal(total),
        **{f"metric {heading(name)}": value for name, value in _leaves(current.metrics)},
        **_earlier_figures(manifests, current),
        **{f"option {name}": value for name, value in chosen.items()},
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
        opening=("versions (* is live):", *history, ""),
        closing=(
            *_verification_lines(compared),
            *_freeable(index, prunable),
            *([] if all else [f"options with their default value: {_all_options_command(index)}"]),
        ),
    )


def _earlier_figures(manifests: Sequence[Manifest], current: Manifest) -> dict[str, Any]:
    """Returns the figures of the identifiers when they were made, for a version made later."""
    with_figures = [manifest for manifest in manifests if _FIGURES in manifest.metrics]
    if not with_figures or _FIGURES in current.metrics:
        return {}
    return {
        f"metric {name}, in version {with_figures[-1].version}": value
        for name, value in _leaves(with_figures[-1].metrics[_FIGURES], f"{_FIGURES}.")
    }


def _reserve(table: DocidTable, configuration: Mapping[str, Any]) -> dict[str, str]:
    """Returns how many codes are left for new documents, for an index that reserved some."""
    reserve = configuration.get("options", {}).get("reserve", 0)
    if not (reserve or table.reserved):
        return {}
    return {"reserve": f"{table.reserved:,} codes reserved for new documents"}


def _draw(index: Path, file: Path, version: str) -> None:
    """Draws the curves of a version, or of all that were trained.

    Raises:
        InputError: There is no such version, or nothing to draw.
    """
    from dsi.index_folder import versions
    from dsi.training.curves import draw_curves

    names = versions.names(index)
    if version != "all" and version not in names:
        raise InputError(
            f"no version {version!r}", where=index, hint=f"Choose from: all, {', '.join(names)}"
        )
    logs = {
        f"version {name}": versions.folder(index, name) / "log"
        for name in (names if version == "all" else [version])
    }
    which = "all versions" if version == "all" else f"version {version}"
    draw_curves(logs, file, f"{index.name}, {which}")


def _edits(folder: Path) -> dict[str, Any]:
    """Returns what the strategy `edit` has changed in a version; empty if nothing.

    `documents` has the number of documents of each update, `change` the norm of the edit of each
    position relative to that of the layer.
    """
    from safetensors import safe_open

    from dsi.updating.strategy_state import FOLDER

    state, weights = folder / FOLDER / "edit.safetensors", folder / "model" / "model.safetensors"
    if not state.is_file():
        return {}
    with safe_open(weights, framework="np") as opened:
        layer = next((name for name in opened.keys() if name.endswith(".edit")), "")  # noqa: SIM118
    with safe_open(state, framework="np") as opened:
        documents, change = opened.get_tensor("documents"), opened.get_tensor("change")
    return {
        "layer": layer.removesuffix(".edit"),
        "documents": documents.tolist(),
        "change": [round(float(each), 6) for each in change],
    }


def _prompt_pool(folder: Path) -> dict[str, int]:
    """Returns how many prompts of how many tokens queries can get; empty without a pool."""
    from dsi.text_encoders.prompt_pool import PromptPool
    from dsi.text_encoders.stored_text_encoder import open_text_encoder
    from dsi.text_encoders.text_encoder import SETTINGS_FILE

    if read_json(folder / "text" / SETTINGS_FILE).get("kind") != PromptPool.kind:
        return {}
    pool = open_text_encoder(folder / "text")
    assert isinstance(pool, PromptPool)
    prompted = int((pool.prompts[:, 0] >= 0).sum())
    return {
        "prompts": prompted,
        "tokens": pool.prompts.shape[1],
        "topics_without": len(pool.keys) - prompted,
    }


def _prompt_pool_line(pool: Mapping[str, int]) -> str:
    return (
        f"{pool['prompts']} of {pool['tokens']} tokens, {pool['topics_without']} topics without "
        "(strategy prompts)"
    )


def _periodic_updates(folder: Path) -> int:
    """Returns how many updates the strategy `periods` has counted."""
    from safetensors import safe_open

    from dsi.updating.strategy_state import FOLDER

    state = folder / FOLDER / "periods.safetensors"
    if not state.is_file():
        return 0
    with safe_open(state, framework="np") as opened:
        return int(opened.get_tensor("updates")[0])


def _state_map(folder: Path) -> dict[str, Any]:
    """Returns what states go through before the output layer; empty if nothing."""
    from dsi.backbones.backbone import CONFIG
    from dsi.backbones.output_states import STATE_MAP

    found: dict[str, Any] = read_json(folder / "model" / CONFIG).get(STATE_MAP, {})
    return found


def _state_map_line(state_map: Mapping[str, Any]) -> str:
    if state_map["kind"] == "memory":
        return f"states and a memory of {state_map['keys'] ** 2:,} rows (strategy pamt)"
    return f"{state_map['features']:,} random Fourier features (strategy kernel)"


def _edits_line(edits: Mapping[str, Any]) -> str:
    documents, updates = sum(edits["documents"]), len(edits["documents"])
    change = ", ".join(f"{100 * each:.1f}%" for each in edits["change"])
    return f"{documents:,} documents in {updates} updates; {change} of {edits['layer']} by position"


def _all_options_command(index: Path) -> str:
    return command_line("info", index, "--all")


def _options_by_name(configuration: Mapping[str, Any], *, everything: bool) -> dict[str, Any]:
    """Returns the options of a training and of the last update by their command-line names.

    Args:
        configuration: Configuration in a manifest.
        everything: Whether to include options with their default value.
    """
    from dsi.indexing.options import TrainingOptions
    from dsi.updating.options import UpdateOptions

    update = configuration.get("update", {}).get("claim", {}).get("options", {})
    separate = ("dataset", "options", "update")
    others = {name: value for name, value in configuration.items() if name not in separate}
    found = {name: value for name, value in _leaves(others) if everything or value is not None}
    for prefix, stored, default in (
        ("", configuration.get("options", {}), TrainingOptions()),
        ("update: ", update, UpdateOptions()),
    ):
        usual = dict(_leaves(dataclasses.asdict(default)))
        for name, value in _leaves(stored):
            if everything or name not in usual or usual[name] != value:
                found[f"{prefix}{name}"] = value
    return found


def _verified(index: Path, manifest: Manifest) -> int | None:
    """Verifies the checksums of a version; returns the number of files, None if it has none."""
    from dsi.index import open_identifiers, open_titles
    from dsi.index_folder import versions

    folder = versions.folder(index, manifest.version)
    files = versions.verify(folder, manifest)
    open_identifiers(folder)
    open_titles(folder)
    return None if manifest.files is None else files


def _freeable(index: Path, prunable: Pruning) -> list[str]:
    """Returns a line on the disk space of old versions, if there are any."""
    from rich.filesize import decimal

    if not prunable.removed:
        return []
    count, freed = len(prunable.removed), decimal(prunable.freed)
    others = "the other version" if count == 1 else f"the {count} other versions"
    return [f"removing {others} frees {freed}: {command_line('prune', index, '--keep', '1')}"]


def _verification_lines(compared: Mapping[str, int | None]) -> list[str]:
    """Returns one line per verified version."""
    return [
        f"version {version} was written without checksums: its sizes and values are valid"
        if files is None
        else f"version {version}: {files:,} files match their checksums"
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
