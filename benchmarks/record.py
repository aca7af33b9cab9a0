"""The record of the benchmarks: one JSONL file a suite, one row a cell.

A row has the cell's name, its settings, what was measured, the machine, the versions and the
commit. A row with an entry `void` says why its figures must not be used.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

from data_prep.errors import InputError
from data_prep.files import replacing_file

RESULTS = Path(os.environ.get("DSI_BENCHMARK_RESULTS", Path(__file__).parent / "results"))
DIGITS = 6
"""Significant digits of a figure in the record."""
VERSIONS = ("torch", "transformers", "numpy", "dsi-toolkit")

Row = dict[str, Any]


def cell(suite: str, name: str, measure: Callable[[], Row]) -> Row:
    """Returns a cell of a benchmark's grid: from the record, or measured and recorded.

    A grid that was stopped therefore resumes where it stopped. A void cell is measured again, and
    its row replaced.

    Args:
        suite: The file under `benchmarks/results/`, without its ending.
        name: Of the cell; every parameter that matters is in it.
        measure: Called where there is no usable row yet. Returns the figures, and under `settings`
            what they were measured with.
    """
    recorded = read(suite).get(name)
    if recorded is not None and "void" not in recorded:
        return recorded
    before = commit()
    return write_measured(suite, name, measure(), before)


def write_measured(suite: str, name: str, figures: Row, before: str | None = None) -> Row:
    """Records a cell with the machine, the versions and the commit.

    Args:
        suite: The file under `benchmarks/results/`, without its ending.
        name: Of the cell.
        figures: What was measured, and under `settings` what it was measured with.
        before: The commit when measuring began; None for the current one.
    """
    settings = {"settings": figures["settings"]} if "settings" in figures else {}
    measured = {key: value for key, value in figures.items() if key != "settings"}
    about = {"machine": machine(), "versions": versions(), "commit": before or commit()}
    return write(suite, {"cell": name, **settings, **measured, **about})


def usable(suite: str, name: str) -> bool:
    """Tells whether the record has a cell that is not void."""
    return "void" not in read(suite).get(name, {"void": "not measured"})


def read(suite: str) -> dict[str, Row]:
    """Returns the rows of a suite by the names of their cells; none where there is no file.

    Raises:
        InputError: A line is not a row, or two rows have one name.
    """
    file = RESULTS / f"{suite}.jsonl"
    rows: dict[str, Row] = {}
    if not file.is_file():
        return rows
    text = file.read_text(encoding="utf-8").removesuffix("\n")
    # Not `splitlines`: a text among the figures may have other ends of lines in it.
    for number, line in enumerate(text.split("\n") if text else [], 1):
        try:
            row = json.loads(line)
            name = row["cell"]
        except (ValueError, TypeError, KeyError):
            raise InputError(f"line {number} is not a row of the record", where=file) from None
        if name in rows:
            raise InputError(f"line {number} has the cell {name!r} again", where=file)
        rows[name] = row
    return rows


def write(suite: str, row: Row) -> Row:
    """Adds a row to a suite, or replaces the row of that cell; several processes may do so at once.

    Rows are in the order of their names, so that branches that measured different cells merge.

    Returns:
        The row as recorded: figures rounded to `DIGITS`, and None for what is not finite.
    """
    row = _rounded(row)
    RESULTS.mkdir(parents=True, exist_ok=True)
    with FileLock(RESULTS / f".{suite}.lock"):
        rows = read(suite)
        rows[row["cell"]] = row
        lines = [json.dumps(rows[name], ensure_ascii=False) + "\n" for name in sorted(rows)]
        with replacing_file(RESULTS / f"{suite}.jsonl") as fresh:
            fresh.write_text("".join(lines), encoding="utf-8")
    return row


def _rounded(value: Any) -> Any:
    """Returns a value as JSON gives it back, with short numbers."""
    if isinstance(value, dict):
        return {str(key): _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(f"{value:.{DIGITS}g}") if abs(value) < 10**DIGITS else round(value)
    return value


def differing(options: Any, default: Any = None) -> Row:
    """Returns the fields of a dataclass of options that differ from their defaults.

    Of an absolute path only the name is left: folders of one machine say nothing on another.

    Args:
        options: An instance; options inside it become dictionaries inside the one returned.
        default: What to compare with; default: an instance of the class made without arguments.
    """
    default = type(options)() if default is None else default
    found: Row = {}
    for field in dataclasses.fields(options):
        value, usual = getattr(options, field.name), getattr(default, field.name)
        if value == usual:
            continue
        if dataclasses.is_dataclass(value) and type(value) is type(usual):
            value = differing(value, usual)
        elif isinstance(value, str | Path) and os.path.isabs(value):
            value = Path(value).name
        found[field.name] = value
    return found


def machine() -> Row:
    """Returns the hardware that the figures depend on."""
    import torch

    processor = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next((x.split(":")[1].strip() for x in lines if "model name" in x), processor)
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"processor": processor, "cores": os.cpu_count(), "accelerator": accelerator}


def versions() -> Row:
    """Returns the versions that the figures depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}}


def commit() -> str:
    """Returns the commit that is checked out, with a plus sign where files have changed since."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ("git", *words), capture_output=True, text=True, cwd=Path(__file__).parent
        )
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "..", ":!results")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def show(rows: list[Row], columns: list[str]) -> None:
    """Prints rows as a Markdown table, then all of them as one line of JSON."""
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        cells = [row.get(column, "") for column in columns]
        print("| " + " | ".join(f"{c:.4f}" if isinstance(c, float) else str(c) for c in cells), "|")
    print(json.dumps(rows))
