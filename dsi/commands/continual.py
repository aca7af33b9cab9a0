"""`dsi continual`: strategies of updating, compared over increments."""

from __future__ import annotations

from pathlib import Path

from dsi.report import Report, TableReport
from dsi.training.options import LoopOptions, MixOptions, ModelOptions, OptimiserOptions
from dsi.updating.options import UpdateOptions

_UPDATE = UpdateOptions()


def continual(
    split: Path,
    *,
    strategies: str,
    out: Path,
    seeds: int = 3,
    interval: int = 2,
    curve_queries: int = 200,
    beams: int | None = None,
    figures: bool = True,
    docids: str = "atomic",
    generator: str = "auto",
    per_doc: int = 40,
    model: ModelOptions = ModelOptions(),  # noqa: B008
    mix: MixOptions = MixOptions(),  # noqa: B008
    optimiser: OptimiserOptions = OptimiserOptions(),  # noqa: B008
    loop: LoopOptions = LoopOptions(),  # noqa: B008
    update_steps: int | None = None,
    update_lr: float | None = None,
    ratio: float = _UPDATE.ratio,
    new_share: float | None = None,
) -> Report:
    """Grows an index by increments with each strategy, and compares what is kept and learned.

    An index of D0 is trained once for each seed. Each strategy then updates a copy of it with
    one increment after another. After each, every corpus so far is asked all of its test queries
    (Hits@1, Hits@10) and for all of its documents (indexing). The measures are those of DSI++
    (A, F, LA) and, during the updates, those of the stability gap. Run again, it continues.

    Args:
        split: A folder that `dsi split` wrote.
        strategies: Strategies of `dsi update` with commas between; single options follow an at
            sign, as in generative@ratio=32,generative@ratio=2,retrain.
        out: The folder for indexes, results, summary.json, pictures and report.html.
        seeds: How many seeds, from 0.
        interval: Steps between evaluations during an update; 0 for none.
        curve_queries: Most queries and documents of each corpus that these ask for.
        beams: Width of the searches; default that of the index.
        figures: Draw figures and write report.html.
        docids: Kind of the identifiers.
        generator: Of the pseudo-queries.
        per_doc: Pseudo-queries a document.
        model: The network of D0.
        mix: What D0 is trained on.
        optimiser: How weights move in the training of D0.
        loop: How long D0 is trained.
        update_steps: Steps of each update; by default a tenth of those of the first training.
        update_lr: Highest learning rate of the updates.
        ratio: Texts of documents that an update learns for each query; 0 for none.
        new_share: Share of an update's examples that are about new documents.
    """
    from dsi.training.build import TrainingOptions
    from dsi.updating.figures import TABLE, cell_text, write_pictures
    from dsi.updating.protocol import ContinualOptions, open_split, run_continual

    options = ContinualOptions(
        strategies=tuple(name.strip() for name in strategies.split(",") if name.strip()),
        seeds=seeds,
        interval=interval,
        curve_queries=curve_queries,
        beams=beams,
        train=TrainingOptions(
            docids=docids,
            generator=generator,
            per_doc=per_doc,
            model=model,
            mix=mix,
            optimiser=optimiser,
            loop=loop,
        ),
        update=UpdateOptions(steps=update_steps, lr=update_lr, ratio=ratio, new_share=new_share),
    )
    name = open_split(split)[0].info.name.rpartition("-")[0]
    summary = run_continual(split, out, options)
    title = f"Continual indexing of {name}, {docids} identifiers"
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
            "seeds": seeds,
            "strategies": {
                strategy: entry["last"] for strategy, entry in summary["strategies"].items()
            },
        },
        title=f"{title}: per cent, {seeds} seeds",
        columns=("strategy", *(heading for _, heading in TABLE), "updates", "seconds"),
        rows=rows,
        closing=tuple(f"wrote {file}" for file in files),
    )
