"""Figures of a comparison, and an HTML page with the figures and tables."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.files import replacing_file
from dsi.continual.page import continual_page
from dsi.continual.summary import MEASURES, curves_of

TABLE = (
    ("A Hits@10", "A Hits@10"),
    ("F Hits@10", "F Hits@10"),
    ("LA Hits@10", "LA Hits@10"),
    ("A Hits@1", "A Hits@1"),
    ("F Hits@1", "F Hits@1"),
    ("A indexing", "A indexing"),
    ("F indexing", "F indexing"),
    ("min-ACC", "min-ACC"),
    ("WC-ACC", "WC-ACC"),
    ("WF10", "WF10"),
    ("never forgotten", "never forgotten"),
)
"""Figure -> heading; all are shares, shown in percent."""
_EXPLAINED = (
    "A: mean over all corpora after the last update. F: what old corpora have lost since they were"
    " at their best. LA: each new corpus right after its own update. min-ACC, WC-ACC and WF10 are"
    " of Hits@10 during the updates, on a sample of the queries: the lowest point of old corpora,"
    " that and the newest corpus, and the largest fall within ten evaluations. Never forgotten:"
    " documents that never went from right to wrong in the indexing task."
)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise InputError(
            "figures need the package matplotlib",
            hint="pip install 'dsi-toolkit[figures]', or add --no-figures",
        ) from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def measures_figure(summary: Mapping[str, Any]) -> Any:
    """Plots A_n, F_n and LA_n over the increments, one line per strategy."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(
        len(MEASURES), 3, figsize=(13, 3.4 * len(MEASURES)), squeeze=False, sharex=True
    )
    titles = {"A": "average (A_n)", "F": "forgetting (F_n)", "LA": "learning (LA_n)"}
    colors = _colors(list(summary["strategies"]))
    for row, measure in enumerate(MEASURES):
        for column, letter in enumerate(titles):
            axis = axes[row][column]
            for strategy, entry in summary["strategies"].items():
                lines = [run[measure][letter] for run in entry["runs"]]
                points = [
                    (n, [100 * line[n] for line in lines])
                    for n in range(min(map(len, lines)))
                    if all(line[n] is not None for line in lines)
                ]
                means = [sum(values) / len(values) for _, values in points]
                numbers = [n for n, _ in points]
                color, marker, line = colors[strategy]
                axis.plot(
                    numbers,
                    means,
                    marker=marker,
                    ls=line,
                    ms=5,
                    mfc="none",
                    label=strategy,
                    color=color,
                )
                if len(lines) > 1:
                    axis.fill_between(
                        numbers,
                        [min(values) for _, values in points],
                        [max(values) for _, values in points],
                        alpha=0.15,
                        color=color,
                        linewidth=0,
                    )
            _wide_enough(axis)
            axis.set_title(f"{measure}: {titles[letter]}", fontsize=10)
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel("per cent")
            if row == len(MEASURES) - 1:
                axis.set_xlabel("after corpus")
                axis.xaxis.get_major_locator().set_params(integer=True)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
    figure.set_layout_engine("constrained")
    return figure


def curves_figure(out: Path, strategies: Sequence[str], seed: int = 0) -> Any | None:
    """Plots Hits@10 of every corpus during the updates; None if there are no measurements.

    A line begins with the update that adds its corpus. A drop on a dotted line, where an update
    begins, is caused by model expansion for new documents, before the first step; a drop right
    after it that recovers is the stability gap.
    """
    drawn = []
    for strategy in strategies:
        corpora = len(list((out / "results" / f"{strategy}-seed{seed}").glob("d*.json")))
        curves = curves_of(out, strategy, seed, corpora)
        if curves and all(curves):
            drawn.append((strategy, curves))
    if not drawn:
        return None
    pyplot = _pyplot()
    columns = min(2, len(drawn))
    rows = -(-len(drawn) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(6.5 * columns, 3.2 * rows), squeeze=False, sharey=True
    )
    for place, (strategy, curves) in enumerate(drawn):
        axis = axes[place // columns][place % columns]
        lines: dict[int, list[tuple[int, float]]] = {}
        begun = 0
        for rows_of_increment in curves:
            axis.axvline(begun, color="grey", ls=":", lw=0.8)
            for row in rows_of_increment:
                for corpus, values in enumerate(row["corpora"]):
                    lines.setdefault(corpus, []).append(
                        (begun + row["step"], 100 * values["Hits@10"])
                    )
            begun += rows_of_increment[-1]["step"]
        for corpus, points in lines.items():
            axis.plot(
                [step for step, _ in points],
                [value for _, value in points],
                marker=".",
                ms=4,
                lw=1.2,
                label=f"D{corpus}",
                color=pyplot.get_cmap("viridis")(corpus / max(len(lines) - 1, 1)),
            )
        axis.set_title(strategy, fontsize=10)
        axis.grid(alpha=0.3)
        axis.set_xlabel("optimizer steps over all updates")
        if place % columns == 0:
            axis.set_ylabel("Hits@10, per cent")
    _wide_enough(*axes.flat[: len(drawn)])
    for empty in range(len(drawn), rows * columns):
        axes[empty // columns][empty % columns].set_visible(False)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=8, fontsize=8)
    figure.set_layout_engine("constrained")
    return figure


def _colors(strategies: Sequence[str]) -> dict[str, tuple[Any, str, str]]:
    """Returns a color, marker and line style for each strategy, because lines may overlap."""
    palette = _pyplot().get_cmap("tab10")
    return {
        name: (palette(place % 10), "osD^vPX*"[place % 8], ("-", "--", "-.", ":")[place % 4])
        for place, name in enumerate(strategies)
    }


def _wide_enough(*axes: Any) -> None:
    """Makes percent axes span at least two points, so that small differences do not look large."""
    low = min(axis.dataLim.intervaly[0] for axis in axes)
    high = max(axis.dataLim.intervaly[1] for axis in axes)
    span = max(2.0, 1.1 * (high - low))
    top = min((low + high + span) / 2, 100 + span / 20)  # no value is above 100
    for axis in axes:
        axis.set_ylim(top - span, top)


def png(figure: Any) -> bytes:
    """Returns a figure as PNG bytes, and closes it."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130, metadata={"Software": None})
    _pyplot().close(figure)
    return content.getvalue()


def cell_text(value: Mapping[str, float | None] | None, *, share: bool = True) -> str:
    """Formats a mean and its standard deviation."""
    if value is None or value["mean"] is None:
        return "-"
    mean, deviation = value["mean"], value["sd"]
    if not share:
        return f"{mean:,.0f}"
    text = f"{100 * mean:.1f}"
    return text if deviation is None else f"{text} ± {100 * deviation:.1f}"


def write_pictures(out: Path, summary: Mapping[str, Any], title: str) -> list[Path]:
    """Writes `measures.png`, `curves.png` and `report.html`, which is self-contained.

    Returns:
        The written files.
    """
    pictures = {"measures.png": png(measures_figure(summary))}
    curves = curves_figure(out, list(summary["strategies"]))
    if curves is not None:
        pictures["curves.png"] = png(curves)
    written = []
    for name, content in pictures.items():
        with replacing_file(out / name) as fresh:
            fresh.write_bytes(content)
        written.append(out / name)
    with replacing_file(out / "report.html") as fresh:
        fresh.write_text(_page(summary, pictures, title), encoding="utf-8")
    return [*written, out / "report.html"]


def _seeds(summary: Mapping[str, Any]) -> str:
    count = summary["seeds"]
    return "1 seed" if count == 1 else f"{count} seeds"


def _page(summary: Mapping[str, Any], pictures: Mapping[str, bytes], title: str) -> str:
    cells = {
        strategy: [
            *(cell_text(entry["last"].get(name)) for name, _ in TABLE),
            *(cell_text(entry["last"].get(name), share=False) for name in ("updates", "seconds")),
        ]
        for strategy, entry in summary["strategies"].items()
    }
    told = f"Per cent, mean of {_seeds(summary)} ± sample deviation. {_EXPLAINED}"
    return continual_page(summary, cells, pictures, title, told)
