"""Plots the curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.files import replacing_file
from dsi.training.log import read_evaluations

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""Name -> steps and values."""

_NAMES = "Give a name that ends in .png, .pdf or .svg, in a folder that exists"
_POINTS = 400
"""Maximum number of points per curve; longer curves are averaged over groups of steps."""


def draw_curves(log: Path, file: Path, title: str) -> None:
    """Plots loss, learning rate, speed and all evaluations of a run in one figure.

    Args:
        log: The `log` folder of a version, or the working folder of a run.
        file: Output file; the suffix selects the format (.png, .pdf, .svg).
        title: Title of the figure.

    Raises:
        InputError: matplotlib is not installed, there are no curves, or the file cannot be
            written.
    """
    if file.suffix not in (".png", ".pdf", ".svg") or not file.parent.is_dir():
        raise InputError("cannot draw this file", where=file, hint=_NAMES)
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "drawing curves needs the package matplotlib",
            where="--curves",
            hint="pip install 'dsi-toolkit[figures]'",
        ) from None
    panels = _panels(log)
    if not panels:
        raise InputError(
            "this version has no training curves",
            where=log,
            hint="Only versions that were trained have some; see the versions in dsi info",
        )
    columns = 2 if len(panels) > 1 else 1
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(5.2 * columns, 3.2 * rows), layout="constrained")
        figure.suptitle(title)
        for place, (name, (series, limits)) in enumerate(panels.items(), 1):
            axes = figure.add_subplot(rows, columns, place)
            axes.set_title(name)
            axes.set_xlabel("step")
            for label, (steps, values) in series.items():
                marker = "o" if len(steps) < 30 else None
                axes.plot(steps, values, marker=marker, markersize=3, label=label)
            if limits is not None:
                axes.set_ylim(*limits)
            if len(series) > 1:
                axes.legend()
        with replacing_file(file) as fresh:
            figure.savefig(fresh, dpi=150, format=file.suffix[1:])


def _panels(log: Path) -> dict[str, tuple[Series, tuple[float, float] | None]]:
    """Returns the data and axis limits of each panel."""
    scalars = read_scalars(log / "tensorboard")
    rows = read_evaluations(log)
    loss = {"loss": "training/loss"}
    terms = [name for name in scalars if name.startswith("training/loss/")]
    if len(terms) > 1:
        loss.update({name.rpartition("/")[2]: name for name in terms})
    wanted: dict[str, dict[str, str]] = {
        "loss": loss,
        "learning rate": {"learning rate": "training/lr"},
        "tokens per second": {"tokens per second": "training/tokens_per_second"},
    }
    panels: dict[str, tuple[Series, tuple[float, float] | None]] = {}
    for panel, tags in wanted.items():
        found = {name: _subsampled(*scalars[tag]) for name, tag in tags.items() if tag in scalars}
        if found:
            panels[panel] = (found, None)
    measured = {name for row in rows for name in row} - {"step", "loss"}
    documents = {"documents Success@1": "memorized", "never forgotten": "never forgotten"}
    dev = sorted(measured - set(documents) - {"forgetting events"})
    for panel, names in {
        "dev queries": {name: name for name in dev},
        "documents": {name: said for name, said in documents.items() if name in measured},
    }.items():
        if names:
            panels[panel] = (
                {
                    said: (
                        [row["step"] for row in rows if name in row],
                        [row[name] for row in rows if name in row],
                    )
                    for name, said in names.items()
                },
                (-0.02, 1.02),
            )
    return panels


def read_scalars(folder: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Reads TensorBoard files: tag -> steps and values; repeated steps are counted once."""
    if not folder.is_dir():
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events: Any = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: ([event.step for event in found], [event.value for event in found])
        for tag in events.Tags()["scalars"]
        if (found := events.Scalars(tag))
    }


def _subsampled(steps: list[float], values: list[float]) -> tuple[list[float], list[float]]:
    """Returns at most `_POINTS` points, each the mean of adjacent steps."""
    group = -(-len(steps) // _POINTS)
    starts = range(0, len(steps), group)
    return (
        [sum(steps[s : s + group]) / len(steps[s : s + group]) for s in starts],
        [sum(values[s : s + group]) / len(values[s : s + group]) for s in starts],
    )
