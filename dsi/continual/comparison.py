"""What a user can set about a comparison of strategies; the text under a field is its help."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from data_prep.checks import check_numbers
from dsi.indexing.options import TrainingOptions
from dsi.training.options import LoopOptions, MixOptions, ModelOptions, OptimiserOptions
from dsi.updating.options import UpdateOptions


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions:
    """How often strategies are run, and how closely they are watched."""

    seeds: int = 3
    """How many seeds, from 0"""
    interval: int = 2
    """Steps between evaluations during an update; 0 for none"""
    curve_queries: int = 200
    """Most queries and documents of each corpus that these ask for"""
    beams: int | None = None
    """Width of the searches; default that of the index"""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            not_negative=("interval",),
            at_least_one=("seeds", "curve_queries", "beams"),
        )


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
