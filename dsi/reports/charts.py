"""SVG figures of labeled points, in the colors of the page's theme."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 34, 46
_MARKERS = ("circle", "square", "diamond", "triangle")
COLORS = 8
"""Colors of points that the page defines, as --c0 to --c7."""


@dataclass(frozen=True)
class Point:
    """A point of a figure: position, letter next to it, and tooltip."""

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
    """

    title: str
    x_label: str
    y_label: str
    x: tuple[float, float]
    y: tuple[float, float]
    log_x: bool = False

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


def span(values: Sequence[float], *, least: float = 0.0, room: float = 0.08) -> tuple[float, float]:
    """Returns the range of an axis that covers all values, at least `least` long."""
    low, high = min(values), max(values)
    middle, length = (low + high) / 2, max(least, (high - low) * (1 + 2 * room))
    length = length or max(abs(middle) * 0.2, 1e-9)
    return middle - length / 2, middle + length / 2


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
    """Returns 1, 2, 5, 10, 20, ... within a range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [part * 10.0**power for power in powers for part in (1, 2, 5)]
    return [value for value in values if low <= value <= high]


def point_chart(axes: Axes, points: Sequence[Point]) -> str:
    """Draws points with letters next to them."""
    parts = []
    taken: list[tuple[float, float]] = []
    for number, point in enumerate(points):
        x, y = axes.place(point.x, point.y)
        up = y - 8
        while any(abs(x - other) < 16 and abs(up - above) < 12 for other, above in taken):
            up -= 13
        taken.append((x, up))
        parts.append(_marker(x, y, number, f"var(--c{number % COLORS})", point.label))
        parts.append(
            f'<text class="letter" x="{x + 7:.1f}" y="{up:.1f}">{html.escape(point.letter)}</text>'
        )
    return _figure(axes, "".join(parts))


def _marker(x: float, y: float, number: int, color: str, title: str) -> str:
    kind = _MARKERS[number % len(_MARKERS)]
    hover = f"<title>{html.escape(title)}</title>" if title else ""
    style = f'fill="var(--paper)" stroke="{color}" stroke-width="2"'
    if kind == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" {style}>{hover}</circle>'
    if kind == "square":
        return (
            f'<rect x="{x - 3.6:.1f}" y="{y - 3.6:.1f}" width="7.2" height="7.2" {style}>{hover}'
            "</rect>"
        )
    corners = {
        "diamond": ((0, -5), (5, 0), (0, 5), (-5, 0)),
        "triangle": ((0, -5), (5, 4), (-5, 4)),
    }[kind]
    around = " ".join(f"{x + right:.1f},{y + down:.1f}" for right, down in corners)
    return f'<polygon points="{around}" {style}>{hover}</polygon>'


def _figure(axes: Axes, content: str) -> str:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for value in log_ticks(*axes.x) if axes.log_x else ticks(*axes.x):
        x, _ = axes.place(value, axes.y[0])
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
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(axes.title)}">'
        f"{''.join(parts)}{content}</svg>"
    )
