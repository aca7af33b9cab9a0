"""A comparison of update strategies as an HTML page."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

from dsi.reports.charts import Axes, Point, point_chart, span
from dsi.reports.page import Cell, Heading, figures, page, remark, section, table

NAMES = {
    "A Hits@10": ("A Hits@10 ↑", "mean over all corpora after the last update"),
    "F Hits@10": ("F Hits@10 ↓", "what old corpora have lost since their best"),
    "LA Hits@10": ("LA Hits@10 ↑", "each new corpus right after its own update"),
    "A Hits@1": ("A Hits@1 ↑", "the same as A, of the first document"),
    "F Hits@1": ("F Hits@1 ↓", "the same as F, of the first document"),
    "A indexing": ("A indexing ↑", "documents that their own text finds"),
    "F indexing": ("F indexing ↓", "such documents lost since the best"),
    "min-ACC": ("min-ACC ↑", "lowest point of old corpora during the updates"),
    "WC-ACC": ("WC-ACC ↑", "that, and the newest corpus"),
    "WF10": ("WF10 ↓", "largest fall within ten evaluations"),
    "never forgotten": ("never forgotten ↑", "documents never lost in the indexing task"),
    "updates": ("updates ↓", "steps times batch"),
    "seconds": ("seconds ↓", "wall-clock time of the updates"),
}
"""Figure -> its symbol, with an arrow in the direction of better values, and its full name."""
_CAPTIONS = {
    "measures.png": "After each increment; the band is from the lowest to the highest seed.",
    "curves.png": "During the increments, first seed; dotted: an update begins. What falls on a"
    " dotted line is lost by making room for new documents, before the first step.",
}


def continual_page(
    summary: Mapping[str, Any],
    cells: Mapping[str, Sequence[str]],
    pictures: Mapping[str, bytes],
    title: str,
    explained: str,
) -> str:
    """Returns the page.

    Args:
        summary: The output of `dsi.continual.summary`.
        cells: Strategy -> the text of each cell, in the order of `NAMES`.
        pictures: File name -> PNG.
        title: Title of the page.
        explained: Small print below the table.
    """
    means = {
        strategy: {name: _mean(entry["last"].get(name)) for name in NAMES}
        for strategy, entry in summary["strategies"].items()
    }
    best = {name: _best(means, name) for name in NAMES}
    rows = [
        [Cell(strategy)]
        + [
            Cell(text, best=len(means) > 1 and _is_best(means[strategy][name], best[name]))
            for name, text in zip(NAMES, cells[strategy], strict=True)
        ]
        for strategy in means
    ]
    headings = [Heading("strategy"), *(Heading(*names) for names in NAMES.values())]
    parts = [table(headings, rows), remark(explained)]
    drawn = _learned_and_forgotten(means)
    if drawn:
        parts.append(section("Learning and forgetting", figures([drawn])))
    parts.append(section("Over the increments", *map(_picture, pictures.items())))
    return page(title, conclusion(means), parts)


def conclusion(means: Mapping[str, Mapping[str, float | None]]) -> str:
    """Returns a sentence that names the best strategy and how much it forgets.

    Args:
        means: Strategy -> measure -> mean over seeds, a share; None if not measured.
    """
    known = {name: each for name, each in means.items() if each["A Hits@10"] is not None}
    if not known:
        return "No strategy has been measured to the end."
    best = max(known, key=lambda name: known[name]["A Hits@10"] or 0.0)
    said = f"{best} finds {_percent(known[best]['A Hits@10'])} of all queries within 10 at the end"
    if known[best]["F Hits@10"] is not None:
        said += f", and has forgotten {_percent(known[best]['F Hits@10'])} of old ones"
    others = sorted(set(known) - {best}, key=lambda name: -(known[name]["A Hits@10"] or 0.0))
    if others:
        second = known[others[0]]
        said += f"; next is {others[0]} with {_percent(second['A Hits@10'])}"
        if second["F Hits@10"] is not None:
            said += f" and {_percent(second['F Hits@10'])}"
    return f"{said}."


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _mean(value: Mapping[str, float | None] | None) -> float | None:
    return None if value is None else value["mean"]


def _best(means: Mapping[str, Mapping[str, float | None]], name: str) -> float | None:
    found = [each[name] for each in means.values()]
    known = [value for value in found if value is not None]
    if not known:
        return None
    return min(known) if NAMES[name][0].endswith("↓") else max(known)


def _is_best(value: float | None, best: float | None) -> bool:
    return value is not None and value == best


def _learned_and_forgotten(
    means: Mapping[str, Mapping[str, float | None]],
) -> tuple[str, str] | None:
    """Plots A against F; None if fewer than two strategies have both."""
    found = [
        (name, 100 * each["F Hits@10"], 100 * each["A Hits@10"])
        for name, each in means.items()
        if each["F Hits@10"] is not None and each["A Hits@10"] is not None
    ]
    if len(found) < 2:
        return None
    axes = Axes(
        "What is found and what is forgotten",
        "F Hits@10, points forgotten",
        "A Hits@10, per cent",
        span([forgotten for _, forgotten, _ in found], least=2.0),
        span([kept for _, _, kept in found], least=2.0),
    )
    points = [
        Point(forgotten, kept, str(number), name)
        for number, (name, forgotten, kept) in enumerate(found, 1)
    ]
    said = "; ".join(f"{number}: {name}" for number, (name, _, _) in enumerate(found, 1))
    return point_chart(axes, points), f"Better is up and left. {said}"


def _picture(entry: tuple[str, bytes]) -> str:
    name, content = entry
    caption = html.escape(_CAPTIONS[name])
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,'
        f'{base64.b64encode(content).decode()}"><figcaption>{caption}</figcaption></figure>'
    )
