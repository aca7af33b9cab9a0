"""`dsi continual`: compares update strategies over increments."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from dsi.command_line.arguments import SPREAD
from dsi.command_line.command_report import Report, TableReport
from dsi.continual.options import (
    DEFAULT_STRATEGIES,
    BaseOptions,
    ComparisonOptions,
    IncrementOptions,
)

_COMPARISON = ComparisonOptions()
_BASE = BaseOptions()
_INCREMENTS = IncrementOptions()


def continual(
    split: Path,
    *,
    out: Path,
    strategies: str = DEFAULT_STRATEGIES,
    report: Path | None = None,
    comparison: Annotated[ComparisonOptions, SPREAD] = _COMPARISON,
    base: Annotated[BaseOptions, SPREAD] = _BASE,
    increments: Annotated[IncrementOptions, SPREAD] = _INCREMENTS,
) -> Report:
    """Compares update strategies over a sequence of increments.

    For each seed, an index of D0 is trained once. Each strategy updates a copy of it with one
    increment after another. After each update, every corpus so far is evaluated on its test queries
    (Hits@1, Hits@10) and on its documents (indexing). The measures are those of DSI++ (A, F, LA)
    and of the stability gap. If interrupted, run it again to resume.

    Args:
        split: Folder that `dsi split` wrote.
        out: Folder for indexes, results, summary.json, figures (SVG) and report.html.
        strategies: Strategies of `dsi update`, separated by commas; options follow an @, as in
            generative@ratio=32,generative@ratio=2,retrain.
        report: File for the HTML page; default: report.html in the output folder.
        comparison: Comparison.
        base: Training on D0.
        increments: Updates.
    """
    from dsi.commands.outputs import refuse_other_page
    from dsi.continual.increments import open_split
    from dsi.continual.protocol import ContinualOptions, run_continual
    from dsi.continual.strategies_page import COSTS, SHARES, cell_text, write_page
    from dsi.distributed.processes import refuse_several

    refuse_several("continual", "Run it without torchrun")
    refuse_other_page(report)
    options = ContinualOptions(
        strategies=tuple(name.strip() for name in strategies.split(",") if name.strip()),
        train=base.training(),
        update=increments.update(),
        **asdict(comparison),
    )
    corpora = open_split(split)
    name = corpora[0].info.name.rpartition("-")[0]
    summary = run_continual(split, out, options)
    title = f"Continual indexing of {name}, {base.docids} identifiers"
    files = write_page(report or out / "report.html", out, summary, title, corpora)
    rows = [
        (
            strategy,
            *(cell_text(entry["last"].get(key)) for key in SHARES),
            *(cell_text(entry["last"].get(key), share=False) for key in COSTS),
        )
        for strategy, entry in summary["strategies"].items()
    ]
    return TableReport(
        data={
            "split": str(split),
            "out": str(out),
            "seeds": len(comparison.each_seed),
            "strategies": {
                strategy: entry["last"] for strategy, entry in summary["strategies"].items()
            },
        },
        title=f"{title}: per cent, {len(comparison.each_seed)} seeds",
        columns=("strategy", *SHARES, *COSTS),
        rows=rows,
        closing=tuple(f"wrote {file}" for file in files),
    )
