"""`dsi info`: shows the contents of an index."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    from docids.store import naming
    from docids.table import DocidTable
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
    verified = {one.version: _verified(index, one) for one in manifests} if verify else {}
    table = DocidTable.open(folder / "docids")
    with naming(folder / "docids"):
        table.check()
    contents = _Contents(
        index=index,
        live=next(manifest for manifest in manifests if manifest.version == live),
        versions=manifests,
        table=table,
        prompts=prompts_of(folder / "text"),
        additions={each: content for each in _ADDITIONS if (content := each.read(folder))},
        sizes={part.name: _size(part) for part in sorted(folder.iterdir())},
        total=used_bytes(index),
        prunable=plan_pruning(index, keep=1),
    )
    return TableReport(
        data={**contents.data, **({"verified": verified} if verify else {})},
        title=f"{index}, version {live}",
        columns=("", ""),
        rows=list(contents.facts(all_options=all).items()),
        opening=("versions (* is live):", *contents.history, ""),
        closing=(
            *_verification_lines(verified),
            *_freeable(index, contents.prunable),
            *([] if all else [f"options with their default value: {_all_options_command(index)}"]),
        ),
    )


@dataclass(frozen=True)
class _Addition:
    """What a strategy has added to a version, or counted in it.

    Attributes:
        key: Its key in the JSON.
        label: Its row of the table.
        read: Returns it from the folder of a version; empty if there is none.
        line: Returns it as a line.
    """

    key: str
    label: str
    read: Callable[[Path], Any]
    line: Callable[[Any], str | int]


@dataclass(frozen=True)
class _Contents:
    """What an index holds.

    Attributes:
        index: The folder of the index.
        live: The manifest of the live version.
        versions: The manifests of all versions.
        table: The identifiers of the live version.
        prompts: The prompts of its text encoder: of queries and of documents.
        additions: What strategies have added to it.
        sizes: Bytes of each part of it.
        total: Bytes of all versions.
        prunable: What removing the other versions would free.
    """

    index: Path
    live: Manifest
    versions: Sequence[Manifest]
    table: DocidTable
    prompts: Mapping[str, str]
    additions: Mapping[_Addition, Any]
    sizes: Mapping[str, int]
    total: int
    prunable: Pruning

    @property
    def data(self) -> dict[str, Any]:
        """The contents for programs."""
        shortest, longest = self._lengths
        table = self.table
        return {
            "index": str(self.index),
            "live": self.live.version,
            "documents": len(table.live),
            "retired": int(table.retired.sum()),
            "docids": {
                "kind": table.kind,
                "alphabet": table.alphabet_size,
                "reserve_left": table.reserved,
                "length": {"min": shortest, "max": longest},
                "options": table.options,
            },
            **({"prompts": self.prompts} if self.prompts else {}),
            **{each.key: content for each, content in self.additions.items()},
            "bytes": {**self.sizes, "total": self.total, "prunable": self.prunable.freed},
            "versions": [dataclasses.asdict(manifest) for manifest in self.versions],
        }

    def facts(self, *, all_options: bool) -> dict[str, Any]:
        """Returns the contents for people: rows of a table.

        Args:
            all_options: Whether to include options with their default value.
        """
        from rich.filesize import decimal

        from dsi.command_line.command_report import heading

        shortest, longest = self._lengths
        length = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
        length += " code" if longest == 1 else " codes"
        table, live = self.table, self.live
        options = _options_by_name(live.configuration, everything=all_options)
        return {
            "documents": len(table.live),
            "deleted": int(table.retired.sum()),
            "identifiers": f"{table.kind}, {length} each, from an alphabet of "
            f"{table.alphabet_size:,}",
            **_reserve(table, live.configuration),
            **{
                f"{name} prompt": json.dumps(prompt, ensure_ascii=False)
                for name, prompt in self.prompts.items()
            },
            **{each.label: each.line(content) for each, content in self.additions.items()},
            "dataset": live.dataset.get("name"),
            "dataset hash": live.dataset.get("content_hash", "")[:12],
            "made": live.created,
            "size": ", ".join(f"{name} {decimal(size)}" for name, size in self.sizes.items()),
            "size of all versions": decimal(self.total),
            **{f"metric {heading(name)}": value for name, value in _metrics(live.metrics)},
            **_earlier_figures(self.versions, live),
            **{f"option {name}": value for name, value in options.items()},
        }

    @property
    def history(self) -> list[str]:
        """One line per version."""
        return [
            f"{'*' if manifest == self.live else ' '} {manifest.version}"
            f"  {manifest.created}  {manifest.documents:,} documents"
            f" (+{manifest.added:,} -{manifest.removed:,})"
            f"{f' from {manifest.parent}' if manifest.parent else ''}  {manifest.origin}".rstrip()
            for manifest in self.versions
        ]

    @property
    def _lengths(self) -> tuple[int, int]:
        """The codes of the shortest and of the longest identifier."""
        lengths = self.table.lengths[self.table.live_identifiers]
        return int(lengths.min()), int(lengths.max())


def _earlier_figures(manifests: Sequence[Manifest], current: Manifest) -> dict[str, Any]:
    """Returns the figures of the identifiers when they were made, for a version made later."""
    with_figures = [manifest for manifest in manifests if _FIGURES in manifest.metrics]
    if not with_figures or _FIGURES in current.metrics:
        return {}
    return {
        f"metric {name}, in version {with_figures[-1].version}": value
        for name, value in _metrics(with_figures[-1].metrics[_FIGURES], f"{_FIGURES}.")
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
    from dsi.backbones.backbone import WEIGHTS, check_weights
    from dsi.updating.strategy_state import read_strategy_state

    state = read_strategy_state(folder, "edit")
    if not state:
        return {}
    shapes = check_weights(folder / "model" / WEIGHTS)
    layer = next((name for name in shapes if name.endswith(".edit")), "")
    return {
        "layer": layer.removesuffix(".edit"),
        "documents": state["documents"].tolist(),
        "change": [round(float(each), 6) for each in state["change"]],
    }


def _prompt_pool(folder: Path) -> dict[str, int]:
    """Returns how many prompts of how many tokens queries can get; empty without a pool."""
    from dsi.text_encoders.prompt_pool import PromptPool
    from dsi.text_encoders.stored_text_encoder import open_text_encoder
    from dsi.text_encoders.text_encoder import SETTINGS_FILE

    settings = read_json(folder / "text" / SETTINGS_FILE)
    if isinstance(settings, dict) and settings.get("kind") != PromptPool.kind:
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
    from dsi.updating.strategy_state import read_strategy_state

    state = read_strategy_state(folder, "periods")
    return int(state["updates"][0]) if state else 0


def _state_map(folder: Path) -> dict[str, Any]:
    """Returns what states go through before the output layer; empty if nothing."""
    from dsi.backbones.backbone import read_config
    from dsi.backbones.output_states import STATE_MAP

    state_map: dict[str, Any] = read_config(folder / "model").get(STATE_MAP, {})
    return state_map


def _state_map_line(state_map: Mapping[str, Any]) -> str:
    if state_map["kind"] == "memory":
        return f"states and a memory of {state_map['keys'] ** 2:,} rows (strategy pamt)"
    return f"{state_map['features']:,} random Fourier features (strategy kernel)"


def _edits_line(edits: Mapping[str, Any]) -> str:
    documents, updates = sum(edits["documents"]), len(edits["documents"])
    change = ", ".join(f"{100 * each:.1f}%" for each in edits["change"])
    return f"{documents:,} documents in {updates} updates; {change} of {edits['layer']} by position"


_ADDITIONS = (
    _Addition("edits", "edits", _edits, _edits_line),
    _Addition("state_map", "output layer reads", _state_map, _state_map_line),
    _Addition("periodic_updates", "updates by periods", _periodic_updates, int),
    _Addition("prompt_pool", "prompts before queries", _prompt_pool, _prompt_pool_line),
)


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
    options = {name: value for name, value in _leaves(others) if everything or value is not None}
    for prefix, stored, default in (
        ("", configuration.get("options", {}), TrainingOptions()),
        ("update: ", update, UpdateOptions()),
    ):
        usual = dict(_leaves(dataclasses.asdict(default)))
        for name, value in _leaves(stored):
            if everything or name not in usual or usual[name] != value:
                options[f"{prefix}{name}"] = value
    return options


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


def _metrics(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of metrics, without lists of no values."""
    return ((name, value) for name, value in _leaves(tree, prefix) if value != "[]")


def _size(path: Path) -> int:
    """Returns the bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
