"""`dsi continual`: compares update strategies over increments."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from dsi.arguments import SPREAD
from dsi.continual.comparison import BaseOptions, ComparisonOptions, IncrementOptions
from dsi.report import Report, TableReport

_COMPARISON = ComparisonOptions()
_BASE = BaseOptions()
_INCREMENTS = IncrementOptions()


def continual(
    split: Path,
    *,
    strategies: str,
    out: Path,
    figures: bool = True,
    comparison: Annotated[ComparisonOptions, SPREAD] = _COMPARISON,
    base: Annotated[BaseOptions, SPREAD] = _BASE,
    increments: Annotated[IncrementOptions, SPREAD] = _INCREMENTS,
) -> Report:
    """Updates an index increment by increment with several strategies, and compares them.

    For each seed an index of D0 is trained once; each strategy updates a copy of it with one
    increment after another. After each update, every corpus so far is evaluated on its test
    queries (Hits@1, Hits@10) and on its documents (indexing). The measures are those of DSI++
    (A, F, LA) and of the stability gap. Run again, it resumes.

    Args:
        split: Folder that `dsi split` wrote.
        strategies: Strategies of `dsi update`, with commas between; options follow an @, as in
            generative@ratio=32,generative@ratio=2,retrain.
        out: Folder for indexes, results, summary.json, figures and report.html.
        figures: Plot figures and write report.html.
        comparison: Comparison.
        base: Training on D0.
        increments: Updates.
    """
    from dsi.continual.figures import TABLE, cell_text, write_pictures
    from dsi.continual.increments import open_split
    from dsi.continual.protocol import ContinualOptions, run_continual

    options = ContinualOptions(
        strategies=tuple(name.strip() for name in strategies.split(",") if name.strip()),
        train=base.training(),
        update=increments.update(),
        **asdict(comparison),
    )
    name = open_split(split)[0].info.name.rpartition("-")[0]
    summary = run_continual(split, out, options)
    title = f"Continual indexing of {name}, {base.docids} identifiers"
    files = write_pictures(out, summary, title) if figures else []
    rows = [
        (
            strategy,
            *(cell_text(entry["last"].get(key)) for key, _ in TABLE),
            *(cell_text(entry["last"].get(key), share=False) for key in ("updates", "seconds")),
        )
        for strategy, entry in summary["strategies"].items()
    ]
    return TableReport(
        data={
            "split": str(split),
            "out": str(out),
            "seeds": comparison.seeds,
            "strategies": {
                strategy: entry["last"] for strategy, entry in summary["strategies"].items()
            },
        },
        title=f"{title}: per cent, {comparison.seeds} seeds",
        columns=("strategy", *(heading for _, heading in TABLE), "updates", "seconds"),
        rows=rows,
        closing=tuple(f"wrote {file}" for file in files),
    )
