"""Draws the curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.files import writing
from dsi.reports.charts import Axes, Drawing, Line, line_chart, span, svg_file
from dsi.reports.page import figures, page, section
from dsi.training.log import read_evaluations

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""Name -> steps and values."""

_SUFFIXES = (".html", ".htm", ".svg")
_NAMES = "Give a name that ends in .html or .svg, in a folder that exists"
_POINTS = 400
"""Maximum number of points per curve; longer curves are averaged over groups of steps."""
_Y_LABELS = {
    "loss": "loss",
    "learning rate": "learning rate",
    "speed": "tokens per second",
    "dev queries": "mean over queries",
    "documents": "fraction of documents",
}


def draw_curves(logs: Mapping[str, Path], file: Path, title: str) -> None:
    """Draws loss, learning rate, speed and all evaluations of one or several runs.

    Args:
        logs: Name of a run -> the `log` folder of a version, or the working folder of a run. Runs
            without training steps are left out.
        file: Output file; the suffix selects the format: .html, a page that follows the theme of
            the browser; .svg, one figure in light colors.
        title: Title of the page or figure.

    Raises:
        InputError: No run has a curve, or the file cannot be written.
    """
    if file.suffix not in _SUFFIXES or not file.parent.is_dir():
        raise InputError("cannot write curves to this type of file", where=file, hint=_NAMES)
    runs = {name: _series(log) for name, log in logs.items()}
    runs = {name: series for name, series in runs.items() if _last_step([series])}
    if not runs:
        raise InputError(
            "this version has no training curves"
            if len(logs) == 1
            else "no version has training curves",
            where=next(iter(logs.values())),
            hint="Only versions with training steps have curves; dsi info lists the versions",
        )
    panels_by_series = {name: _panels(series, list(runs.values())) for name, series in runs.items()}
    if file.suffix == ".svg":
        content = svg_file(title, _figure_rows(panels_by_series))
    else:
        summary = "; ".join(_summary(name, series) for name, series in runs.items()) + "."
        parts = [
            section(name, figures([(panel, "") for panel in panels]))
            for name, panels in panels_by_series.items()
        ]
        content = page(title, summary, parts)
    with writing(file) as stream:
        stream.write(content)


def _figure_rows(panels_by_series: Mapping[str, Sequence[Drawing]]) -> list[list[Drawing]]:
    """Returns two figures per row; with several runs, a row per run, which then begins with it."""
    if len(panels_by_series) > 1:
        return [list(panels) for panels in panels_by_series.values()]
    [panels] = panels_by_series.values()
    return [list(panels[start : start + 2]) for start in range(0, len(panels), 2)]


def _summary(name: str, series: Mapping[str, Series]) -> str:
    """Returns how far a run came: its steps, its loss, and its best result on dev queries."""
    sentence = f"{name} took {_last_step([series]):,.0f} steps"
    if "loss" in series and "loss" in series["loss"]:
        losses = series["loss"]["loss"][1]
        tenth = max(1, len(losses) // 10)
        first, last = (sum(part) / len(part) for part in (losses[:tenth], losses[-tenth:]))
        sentence += f", with a loss of {first:.3g} in the first tenth and {last:.3g} in the last"
    for label, (steps, values) in series.get("dev queries", {}).items():
        if label == "RR@10":
            best = max(range(len(values)), key=values.__getitem__)
            sentence += f", and was best at step {steps[best]:,.0f} (RR@10 {values[best]:.3f})"
    return sentence


def _last_step(runs: Sequence[Mapping[str, Series]]) -> float:
    """Returns the last step of any curve; 0 if no run took a training step."""
    steps = [max(steps) for run in runs for panel in run.values() for steps, _ in panel.values()]
    return max(steps, default=0)


def _panels(series: Mapping[str, Series], runs: Sequence[Mapping[str, Series]]) -> list[Drawing]:
    """Returns the figures of a run, with the same axes as those of the other runs."""
    drawings = []
    for name, curves in series.items():
        panels = [run[name] for run in runs if name in run]
        values = [value for panel in panels for _, each in panel.values() for value in each]
        shares = name in ("dev queries", "documents")
        axes = Axes(
            name,
            "optimizer step",
            _Y_LABELS[name],
            (0, _last_step(runs) * 1.02),
            (-0.02, 1.02) if shares else span(values),
            better="↑" if shares else "↓" if name == "loss" else "",
        )
        lines = [
            Line(number, label, list(zip(steps, ordinates, strict=True)))
            for number, (label, (steps, ordinates)) in enumerate(curves.items())
        ]
        panel = line_chart(axes, lines)
        legend = [(line.number, line.label) for line in lines]
        drawings.append(panel.with_key(legend) if shares or len(lines) > 1 else panel)
    return drawings


def _series(log: Path) -> dict[str, Series]:
    """Returns the data of each figure."""
    scalars = read_scalars(log / "tensorboard")
    rows = read_evaluations(log)
    loss = {"loss": "training/loss"}
    terms = [name for name in scalars if name.startswith("training/loss/")]
    if len(terms) > 1:
        loss.update({name.rpartition("/")[2]: name for name in terms})
    curves: dict[str, dict[str, str]] = {
        "loss": loss,
        "learning rate": {"learning rate": "training/lr"},
        "speed": {"tokens per second": "training/tokens_per_second"},
    }
    series: dict[str, Series] = {}
    for panel, tags in curves.items():
        available = {
            name: _subsampled(*scalars[tag]) for name, tag in tags.items() if tag in scalars
        }
        if available:
            series[panel] = available
    measured = {name for row in rows for name in row} - {"step", "loss"}
    documents = {"documents Success@1": "memorized", "never forgotten": "never forgotten"}
    dev = sorted(measured - set(documents) - {"forgetting events"})
    for panel, names in {
        "dev queries": {name: name.replace("Success@", "Hits@") for name in dev},
        "documents": {name: label for name, label in documents.items() if name in measured},
    }.items():
        if names:
            series[panel] = {
                label: (
                    [row["step"] for row in rows if name in row],
                    [row[name] for row in rows if name in row],
                )
                for name, label in names.items()
            }
    return series


def read_scalars(folder: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Reads TensorBoard files: tag -> steps and values; repeated steps are counted once."""
    if not folder.is_dir():
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events: Any = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: ([event.step for event in points], [event.value for event in points])
        for tag in events.Tags()["scalars"]
        if (points := events.Scalars(tag))
    }


def _subsampled(steps: list[float], values: list[float]) -> tuple[list[float], list[float]]:
    """Returns at most `_POINTS` points, each the mean of adjacent steps."""
    group = -(-len(steps) // _POINTS)
    starts = range(0, len(steps), group)
    return (
        [sum(steps[s : s + group]) / len(steps[s : s + group]) for s in starts],
        [sum(values[s : s + group]) / len(values[s : s + group]) for s in starts],
    )
