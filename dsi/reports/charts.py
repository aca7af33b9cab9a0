"""SVG figures: lines and labeled points, in the colors of the page or, in a file, in light ones."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

WIDTH, HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 16, 34, 46
_MARKERS = ("circle", "square", "diamond", "triangle")
_DASHES = ("", "7 3", "2 3", "9 3 2 3")
_DODGE = 5.0
"""Pixels between lines that coincide."""
_MOST_MARKED = 40
"""Points of a line up to which each has a marker."""
_ROW, _SWATCH, _LETTER = 20, 32, 9.0
"""Of a key: height of a row, width before a label, and width of a character, in pixels."""

LIGHT = {
    "paper": "#fff",
    "ink": "#1b1f24",
    "soft": "#59636e",
    "line": "#d5dae0",
    "shade": "#f4f6f8",
    "c0": "#0061a8",
    "c1": "#b34700",
    "c2": "#00755a",
    "c3": "#a0327d",
    "c4": "#6f5600",
    "c5": "#3f6fb5",
    "c6": "#7a4bc2",
    "c7": "#5b6670",
}
"""Name of a color -> its value in the light theme."""
DARK = {
    "paper": "#14181d",
    "ink": "#e6eaee",
    "soft": "#9aa5b1",
    "line": "#37404a",
    "shade": "#1e242b",
    "c0": "#5cb3f2",
    "c1": "#f59a4d",
    "c2": "#3ecfa4",
    "c3": "#ec8fca",
    "c4": "#dcc14f",
    "c5": "#93b8f2",
    "c6": "#bfa0f5",
    "c7": "#aab5c0",
}
"""The same in the dark theme."""
COLORS = 8
"""Colors of lines and points, c0 to c7."""
STYLE = """svg text { font: 12px system-ui, sans-serif; fill: var(--soft); }
svg text.title, svg text.letter { fill: var(--ink); font-weight: 600; }
svg .grid { stroke: var(--line); }
svg .rule { stroke: var(--soft); stroke-dasharray: 1 3; }"""
"""CSS of every figure."""


@dataclass(frozen=True)
class Line:
    """A line of a figure.

    Attributes:
        number: Decides color, dash and marker; the same in all figures of a report.
        label: Text for the key.
        points: (x, y), in order of x.
        low: Lower bounds of a band around it; as many as points, or none.
        high: Its upper bounds.
    """

    number: int
    label: str
    points: Sequence[tuple[float, float]]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Point:
    """A point of a figure: number (as of a line), position, letter next to it, and label."""

    number: int
    x: float
    y: float
    letter: str
    label: str


@dataclass(frozen=True)
class Axes:
    """The axes of a figure, in the units of its data.

    Attributes:
        title: Title above the figure.
        x_label: Label below the horizontal axis.
        y_label: Label next to the vertical axis.
        x: Range of the horizontal axis.
        y: Range of the vertical axis.
        log_x: Whether the horizontal axis is logarithmic.
        better: Direction of better values, an arrow; empty if there is none.
        whole_x: Whether the horizontal axis has whole numbers only.
    """

    title: str
    x_label: str
    y_label: str
    x: tuple[float, float]
    y: tuple[float, float]
    log_x: bool = False
    better: str = ""
    whole_x: bool = False

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Converts data coordinates to pixels in the figure."""
        low, high = self.x
        if self.log_x:
            x, low, high = math.log10(x), math.log10(low), math.log10(high)
        across = (x - low) / (high - low) if high > low else 0.5
        up = (y - self.y[0]) / (self.y[1] - self.y[0]) if self.y[1] > self.y[0] else 0.5
        return (
            _LEFT + across * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM),
        )


@dataclass(frozen=True)
class Drawing:
    """A figure.

    Attributes:
        content: SVG elements.
        title: Text for screen readers.
        width: Width in pixels.
        height: Height in pixels.
    """

    content: str
    title: str
    width: float = WIDTH
    height: float = HEIGHT

    def svg(self, more: str = "") -> str:
        """Returns an SVG element, with further attributes."""
        return (
            f'<svg {more}viewBox="0 0 {self.width:g} {self.height:g}" role="img"'
            f' aria-label="{html.escape(self.title)}">{self.content}</svg>'
        )

    def with_key(self, labels: Sequence[tuple[int, str]], *, lines: bool = True) -> Drawing:
        """Returns the figure with the key of its lines or points below it: (number, label)."""
        added = key(labels, lines=lines)
        below = added.svg(f'y="{self.height:g}" width="{added.width:g}" height="{added.height:g}" ')
        return replace(self, content=self.content + below, height=self.height + added.height)


def span(
    values: Sequence[float],
    *,
    least: float = 0.0,
    room: float = 0.08,
    most: float | None = None,
) -> tuple[float, float]:
    """Returns the range of an axis that covers all values, at least `least` long.

    Args:
        values: The values.
        least: Minimum length, so that small differences do not look large.
        room: Fraction of the length that is added at each end.
        most: A bound of the values; the range ends just above it.
    """
    low, high = min(values), max(values)
    middle, length = (low + high) / 2, max(least, (high - low) * (1 + 2 * room))
    length = length or max(abs(middle) * 0.2, 1e-9)
    top = middle + length / 2
    if most is not None:
        top = min(top, most + length / 20)
    return top - length, top


def log_span(values: Sequence[float]) -> tuple[float, float]:
    """Returns the range of a logarithmic axis that covers all values, which must be positive."""
    return min(values) / 1.6, max(values) * 1.6


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Returns round numbers within a range, up to a maximum count."""
    step = 10.0 ** math.floor(math.log10((high - low) / most or 1e-9))
    while (high - low) / step > most:
        step = (
            step * 2
            if round(step / 10 ** math.floor(math.log10(step) + 1e-9)) in (1, 5)
            else (step * 2.5)
        )
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Returns round numbers within a range: powers of ten, and as many between as are useful."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values: list[float] = []
    for parts in ((1,), (1, 2, 5), range(1, 10), [part / 10 for part in range(10, 100)]):
        ticks = [part * 10.0**power for power in powers for part in parts]
        values = [value for value in ticks if low <= value <= high]
        if len(values) >= 3:
            break
    return values[:: max(1, len(values) // 5)] if len(values) > 8 else values


def line_chart(axes: Axes, lines: Sequence[Line], rules: Sequence[float] = ()) -> Drawing:
    """Draws lines; lines that coincide are shifted slightly and get different markers.

    Args:
        axes: The axes.
        lines: The lines, each with its own color, dash and marker.
        rules: Positions of dotted vertical lines.
    """
    parts = []
    for x in rules:
        left, _ = axes.place(x, axes.y[0])
        parts.append(
            f'<line class="rule" x1="{left:.1f}" x2="{left:.1f}" y1="{_TOP}"'
            f' y2="{HEIGHT - _BOTTOM}"/>'
        )
    for place, line in enumerate(lines):
        number, color = line.number, _color(line.number)
        aside = (place - (len(lines) - 1) / 2) * _DODGE if _coincides(place, lines) else 0.0
        if line.low:
            upper = [axes.place(x, y) for (x, _), y in zip(line.points, line.high, strict=True)]
            lower = [axes.place(x, y) for (x, _), y in zip(line.points, line.low, strict=True)]
            around = _corners([(x + aside, y) for x, y in [*upper, *lower[::-1]]])
            parts.append(f'<polygon points="{around}" fill="{color}" opacity="0.15"/>')
        places = [(x + aside, y) for x, y in (axes.place(*point) for point in line.points)]
        parts.append(
            f'<polyline points="{_corners(places)}" fill="none" stroke="{color}" stroke-width="2"'
            f' stroke-dasharray="{_DASHES[number % len(_DASHES)]}"/>'
        )
        if len(places) <= _MOST_MARKED:
            parts += [
                _marker(x, y, number, f"{line.label}: {value:.4g}")
                for (x, y), (_, value) in zip(places, line.points, strict=True)
            ]
    return _figure(axes, "".join(parts))


def _coincides(place: int, lines: Sequence[Line]) -> bool:
    """Returns whether a line shares a point with another one."""
    points = set(lines[place].points)
    others = [*lines[:place], *lines[place + 1 :]]
    return any(not points.isdisjoint(other.points) for other in others)


def point_chart(axes: Axes, points: Sequence[Point]) -> Drawing:
    """Draws points with letters next to them; points that coincide are set apart."""
    parts = []
    labels: list[tuple[float, float, list[str]]] = []
    for point in points:
        x, y = axes.place(point.x, point.y)
        near = [each for each in labels if abs(x - each[0]) < 16 and abs(y - each[1]) < 12]
        if near:
            near[0][2].append(point.letter)
            x = near[0][0] + _DODGE * (len(near[0][2]) - 1)
        else:
            labels.append((x, y, [point.letter]))
        parts.append(_marker(x, y, point.number, point.label))
    for x, y, letters in labels:
        text = html.escape(", ".join(letters))
        right = x + 7 + _LETTER * len(text) < WIDTH
        place = f'x="{x + 7:.1f}"' if right else f'x="{WIDTH - 2}" text-anchor="end"'
        parts.append(f'<text class="letter" {place} y="{y - 8:.1f}">{text}</text>')
    return _figure(axes, "".join(parts))


def key(labels: Sequence[tuple[int, str]], *, lines: bool = True) -> Drawing:
    """Draws the key of lines or points, (number, label): marker, dash of lines, and label."""
    parts = []
    x, y = 4.0, _ROW / 2
    for number, label in labels:
        needed = _SWATCH + _LETTER * len(label) + 14
        if x > 4 and x + needed > WIDTH:
            x, y = 4.0, y + _ROW
        if lines:
            parts.append(
                f'<line x1="{x:.1f}" x2="{x + 26:.1f}" y1="{y}" y2="{y}" stroke="{_color(number)}"'
                f' stroke-width="2" stroke-dasharray="{_DASHES[number % len(_DASHES)]}"/>'
            )
        parts.append(
            f"{_marker(x + 13, y, number, '')}"
            f'<text x="{x + _SWATCH:.1f}" y="{y + 4}">{html.escape(label)}</text>'
        )
        x += needed
    title = f"Key: {', '.join(label for _, label in labels)}"
    return Drawing("".join(parts), title, WIDTH, y + _ROW / 2 + 2)


def svg_file(title: str, rows: Sequence[Sequence[Drawing]]) -> str:
    """Returns figures in rows as an SVG file of its own, in light colors."""
    parts, y = [], 34.0
    for row in rows:
        x = 0.0
        for drawing in row:
            size = f'width="{drawing.width:g}" height="{drawing.height:g}" '
            parts.append(drawing.svg(f'x="{x:g}" y="{y:g}" {size}'))
            x += drawing.width + 16
        y += max(drawing.height for drawing in row) + 12
    width = max(sum(drawing.width + 16 for drawing in row) for row in rows)
    content = (
        f"<style>{STYLE}</style>"
        '<rect width="100%" height="100%" fill="var(--paper)"/>'
        f'<text class="title" x="12" y="22">{html.escape(title)}</text>{"".join(parts)}'
    )
    size = f'xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{y:g}" '
    svg = Drawing(content, title, width, y).svg(size)
    # Programs that draw SVG outside a browser know no CSS variables.
    return re.sub(r"var\(--(\w+)\)", lambda found: LIGHT[found[1]], svg) + "\n"


def _color(number: int) -> str:
    return f"var(--c{number % COLORS})"


def _corners(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _marker(x: float, y: float, number: int, title: str) -> str:
    kind = _MARKERS[number % len(_MARKERS)]
    hover = f"<title>{html.escape(title)}</title>" if title else ""
    style = f'fill="var(--paper)" stroke="{_color(number)}" stroke-width="2"'
    if kind == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" {style}>{hover}</circle>'
    if kind == "square":
        return (
            f'<rect x="{x - 3.6:.1f}" y="{y - 3.6:.1f}" width="7.2" height="7.2" {style}>{hover}'
            "</rect>"
        )
    around = {
        "diamond": ((0, -5), (5, 0), (0, 5), (-5, 0)),
        "triangle": ((0, -5), (5, 4), (-5, 4)),
    }[kind]
    corners = _corners([(x + right, y + down) for right, down in around])
    return f'<polygon points="{corners}" {style}>{hover}</polygon>'


def _figure(axes: Axes, content: str) -> Drawing:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    across = log_ticks(*axes.x) if axes.log_x else ticks(*axes.x)
    free = 0.0
    for value in across:
        x, _ = axes.place(value, axes.y[0])
        half = _LETTER * len(f"{value:,.6g}") / 2
        if (axes.whole_x and value != int(value)) or x - half < free:
            continue
        free = x + half + 8
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:,.6g}</text>'
        )
    for value in ticks(*axes.y):
        _, y = axes.place(axes.x[0], value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:,.6g}</text>')
    middle = (_LEFT + right) / 2
    parts.append(
        f'<text class="title" x="{_LEFT}" y="18">{html.escape(axes.title)}</text>'
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{html.escape(axes.x_label)}</text>"
        f'<text transform="translate(13 {(_TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(axes.y_label)}</text>"
    )
    if axes.better:
        parts.append(f'<text x="{right}" y="18" text-anchor="end">{axes.better} better</text>')
    return Drawing("".join(parts) + content, axes.title)
