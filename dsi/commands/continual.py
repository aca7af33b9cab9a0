"""`dsi continual`: strategies of updating, compared over increments."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated

from dsi.arguments import SPREAD
from dsi.report import Report, TableReport
from dsi.training.options import LoopOptions, MixOptions, ModelOptions, OptimiserOptions
from dsi.training.training_options import TrainingOptions
from dsi.updating.options import UpdateOptions
from dsi.updating.protocol import ComparisonOptions


@dataclass(frozen=True)
class BaseOptions:
    """How the index of D0 is trained."""

    docids: str = TrainingOptions.docids
    """Kind of the identifiers"""
    generator: str = TrainingOptions.generator
    """Of the pseudo-queries"""
    per_doc: int = TrainingOptions.per_doc
    """Pseudo-queries a document"""
    model: ModelOptions = field(default_factory=ModelOptions)
    """The network of D0"""
    mix: MixOptions = field(default_factory=MixOptions)
    """What D0 is trained on"""
    optimiser: OptimiserOptions = field(default_factory=OptimiserOptions)
    """How weights move in the training of D0"""
    loop: LoopOptions = field(default_factory=LoopOptions)
    """How long D0 is trained"""

    def training(self) -> TrainingOptions:
        """Returns the options of `dsi train`; those that are not offered here as they are there."""
        return TrainingOptions(**{entry.name: getattr(self, entry.name) for entry in fields(self)})


@dataclass(frozen=True)
class IncrementOptions:
    """What the updates of all strategies share."""

    update_steps: int | None = None
    """Steps of each update; by default a tenth of those of the first training"""
    update_lr: float | None = None
    """Highest learning rate of the updates"""
    ratio: float = UpdateOptions.ratio
    """Texts of documents that an update learns for each query; 0 for none"""
    new_share: float | None = None
    """Share of an update's examples that are about new documents"""

    def update(self) -> UpdateOptions:
        """Returns the options of `dsi update`."""
        return UpdateOptions(
            steps=self.update_steps,
            lr=self.update_lr,
            ratio=self.ratio,
            new_share=self.new_share,
        )


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
        figures: Draw figures and write report.html.
        comparison: How often, and how closely watched.
        base: How the index of D0 is trained.
        increments: What the updates of all strategies share.
    """
    from dsi.updating.figures import TABLE, cell_text, write_pictures
    from dsi.updating.increments import open_split
    from dsi.updating.protocol import ContinualOptions, run_continual

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
