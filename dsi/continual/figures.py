"""Figures of a comparison of update strategies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsi.continual.summary import MEASURES, curves_of
from dsi.reports.charts import Axes, Drawing, Line, Point, line_chart, point_chart, span

_LETTERS = {"A": "average", "F": "forgetting", "LA": "learning"}
"""Letter -> its name in DSI++."""
LEAST = 2.0
"""Shortest axis of percentages, so that small differences do not look large."""


def increments_figures(summary: Mapping[str, Any]) -> list[list[Drawing]]:
    """Draws A_n, F_n and LA_n over the increments: a row per measure, a line per strategy.

    The band of a line is from the lowest to the highest seed. A and LA of a measure share their
    axis, and all F share theirs.
    """
    lines = {
        (measure, letter): _lines(summary, measure, letter)
        for measure in MEASURES
        for letter in _LETTERS
    }
    forgetting = [each for (_, letter), each in lines.items() if letter == "F"]
    rows = []
    for measure in ("Hits@10", "Hits@1", "indexing"):
        learned = _range([lines[measure, "A"], lines[measure, "LA"]])
        row = []
        for letter, name in _LETTERS.items():
            series = lines[measure, letter]
            last = max((x for line in series for x, _ in line.points), default=1)
            axes = Axes(
                f"{letter} {measure}: {name}",
                "after corpus",
                "points" if letter == "F" else "per cent",
                (-0.2, last + 0.2),
                _range(forgetting) if letter == "F" else learned,
                better="↓" if letter == "F" else "↑",
                whole_x=True,
            )
            row.append(line_chart(axes, series))
        rows.append(row)
    return rows


def _lines(summary: Mapping[str, Any], measure: str, letter: str) -> list[Line]:
    found = []
    for number, (strategy, entry) in enumerate(summary["strategies"].items()):
        runs = [run[measure][letter] for run in entry["runs"]]
        points = [
            (n, [100 * run[n] for run in runs])
            for n in range(min(map(len, runs)))
            if all(run[n] is not None for run in runs)
        ]
        several = len(runs) > 1
        found.append(
            Line(
                number,
                strategy,
                [(n, sum(values) / len(values)) for n, values in points],
                [min(values) for _, values in points] if several else (),
                [max(values) for _, values in points] if several else (),
            )
        )
    return found


def _range(groups: Sequence[Sequence[Line]]) -> tuple[float, float]:
    """Returns the range of an axis in per cent that shows every line and band."""
    lines = [line for lines in groups for line in lines]
    values = [y for line in lines for _, y in line.points]
    return span(
        [*values, *(y for line in lines for y in (*line.low, *line.high))] or [0.0],
        least=LEAST,
        most=100.0,
    )


def curves_figures(out: Path, strategies: Sequence[str], seed: int = 0) -> list[Drawing]:
    """Draws Hits@10 of every corpus during the updates, one figure per strategy.

    A line begins with the update that adds its corpus. A drop on a dotted line, where an update
    begins, is caused by model expansion for new documents, before the first step; a drop right
    after it that recovers is the stability gap. Strategies without training steps have no figure.
    """
    curves_by_strategy = {}
    for strategy in strategies:
        corpora = len(list((out / "results" / f"{strategy}-seed{seed}").glob("d*.json")))
        curves = curves_of(out, strategy, seed, corpora)
        if curves and all(curves):
            curves_by_strategy[strategy] = _curves(curves)
    if not curves_by_strategy:
        return []
    vertical = _range([lines for lines, _ in curves_by_strategy.values()])
    figures = []
    for strategy, (lines, begins) in curves_by_strategy.items():
        last = max(x for line in lines for x, _ in line.points)
        axes = Axes(
            strategy,
            "optimizer steps over all updates",
            "Hits@10, per cent",
            (-0.03 * last, 1.03 * last),
            vertical,
            better="↑",
        )
        figures.append(
            line_chart(axes, lines, begins).with_key([(line.number, line.label) for line in lines])
        )
    return figures


def _curves(curves: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[list[Line], list[float]]:
    """Returns one line per corpus over the steps of all updates, and where each update begins."""
    points: dict[int, list[tuple[float, float]]] = {}
    begins: list[float] = []
    begun = 0
    for rows in curves:
        begins.append(begun)
        for row in rows:
            for corpus, values in enumerate(row["corpora"]):
                points.setdefault(corpus, []).append((begun + row["step"], 100 * values["Hits@10"]))
        begun += rows[-1]["step"]
    return [Line(corpus, f"D{corpus}", line) for corpus, line in points.items()], begins


def learning_and_forgetting(means: Mapping[str, Mapping[str, float | None]]) -> list[Drawing]:
    """Draws A against F, of Hits@10 and of Hits@1, with common axes.

    Args:
        means: Strategy -> measure -> mean over seeds, a share; None if not measured.

    Returns:
        Empty if fewer than two strategies have both.
    """
    found: dict[str, list[Point]] = {}
    for measure in ("Hits@10", "Hits@1"):
        for number, (name, each) in enumerate(means.items()):
            accuracy, forgetting = each[f"A {measure}"], each[f"F {measure}"]
            if accuracy is not None and forgetting is not None:
                point = Point(number, 100 * forgetting, 100 * accuracy, str(number + 1), name)
                found.setdefault(measure, []).append(point)
    found = {measure: points for measure, points in found.items() if len(points) > 1}
    everything = [point for points in found.values() for point in points]
    figures = []
    for measure, points in found.items():
        axes = Axes(
            f"A and F of {measure}",
            f"F {measure}, points forgotten",
            f"A {measure}, per cent",
            span([point.x for point in everything], least=LEAST),
            span([point.y for point in everything], least=LEAST, most=100.0),
            better="↖",
        )
        labels = [(point.number, f"{point.letter}: {point.label}") for point in points]
        figures.append(point_chart(axes, points).with_key(labels, lines=False))
    return figures
