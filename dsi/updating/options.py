"""Everything that a user can set about an update; the text under a field is its help."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_prep.checks import check_choices, check_numbers
from data_prep.errors import InputError
from data_prep.generators import GENERATORS


@dataclass(frozen=True)
class InstantOptions:
    """How the row of a new document is solved for."""

    solver: str = "lbfgs"
    """lbfgs (the objective as it is) or closed (its least-squares form, solved at once)"""
    lam: float = 0.5
    """What being found weighs; the rest is what leaving old documents alone weighs"""
    margin_new: float = 1.0
    """By how much a new document is to lead in the logits of its own queries"""
    margin_old: float = 1.0
    """By how much it is to stay behind in those of others"""
    l2: float = 1.0
    """How strongly the row is held to where it starts"""
    anchor: str = "start"
    """Where that is: start (the row that growing gave it) or zero (as in the paper)"""
    queries: int = 15
    """Most queries of a document whose mean stands for it"""
    competitors: int = 200
    """Old documents that enter the objective at a time"""
    iterations: int = 30
    """Most iterations of L-BFGS"""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            "instant",
            positive=("l2",),
            at_least_one=("queries", "competitors", "iterations"),
        )
        check_choices(self, "instant", solver=("lbfgs", "closed"), anchor=("start", "zero"))
        if not 0 < self.lam < 1:
            raise InputError(f"--instant.lam {self.lam} is not between 0 and 1")


@dataclass(frozen=True)
class EwcOptions:
    """How weights are held."""

    weight: float = 1000.0
    """What the penalty is multiplied with"""
    samples: int = 64
    """Examples of old documents that the Fisher information is measured on"""

    def __post_init__(self) -> None:
        check_numbers(self, "ewc", not_negative=("weight",), at_least_one=("samples",))


@dataclass(frozen=True)
class RankOneOptions:
    """How moves along the mean gradient are held."""

    weight: float = 1000.0
    """What the penalty is multiplied with"""
    samples: int = 64
    """Examples of old documents that the mean gradient is measured on"""

    def __post_init__(self) -> None:
        check_numbers(self, "rank1", not_negative=("weight",), at_least_one=("samples",))


@dataclass(frozen=True)
class MarginOptions:
    """How the pattern of states is kept."""

    weight: float = 1.0
    """What the term is multiplied with; GeRe has 100 for language models"""
    samples: int = 256
    """Queries of old documents whose states are kept"""
    batch: int = 64
    """How many of them are looked at in a step"""

    def __post_init__(self) -> None:
        check_numbers(self, "margin", not_negative=("weight",), at_least_one=("samples", "batch"))


@dataclass(frozen=True)
class BatchSoftmaxOptions:
    """How sharp the softmax over the batch is."""

    temperature: float = 0.09
    """What cosines are divided by"""

    def __post_init__(self) -> None:
        check_numbers(self, "batch_softmax", positive=("temperature",))


@dataclass(frozen=True)
class DistillOptions:
    """How the version before is kept to."""

    kl: float = 1.0
    """Weight of the divergence from its distribution over codes"""
    pcd: float = 0.0
    """Weight of the squared difference of logits; HPCR has 0.1"""
    scd: float = 0.0
    """Weight of the cross-entropy of similarities between examples; HPCR has 0.5"""
    temperature: float = 0.09
    """What cosines between examples are divided by"""

    def __post_init__(self) -> None:
        check_numbers(self, "distill", not_negative=("kl", "pcd", "scd"), positive=("temperature",))
        if not (self.kl or self.pcd or self.scd):
            raise InputError(
                "--distill.kl, --distill.pcd and --distill.scd are all 0",
                hint="Give one of them a weight, or leave distill out of --strategy",
            )


@dataclass(frozen=True)
class SamStrategyOptions:
    """How far the worst point nearby is looked for."""

    rho: float = 0.05
    """Length of the perturbation; 0.15 is usual with adaptive"""
    adaptive: bool = False
    """Perturb each weight in proportion to its size (ASAM)"""

    def __post_init__(self) -> None:
        check_numbers(self, "sam", positive=("rho",))


@dataclass(frozen=True)
class WarmUpOptions:
    """How long new documents take to reach their share."""

    part: float = 0.5
    """Part of the steps over which their share rises"""

    def __post_init__(self) -> None:
        check_numbers(self, "warm_up", share=("part",))


@dataclass(frozen=True)
class AdapterOptions:
    """The low-rank adapter of an update."""

    rank: int | None = None
    """Rank; by default that of the first training's adapters, or 8"""
    alpha: int | None = None
    """Its scale times the rank; by default twice the rank"""
    dropout: float = 0.0
    """Share of its input values dropped in training"""

    def __post_init__(self) -> None:
        check_numbers(self, "lora", at_least_one=("rank", "alpha"), below_one=("dropout",))


@dataclass(frozen=True)
class InterpolationOptions:
    """The slow adapter beside the fast one."""

    rate: float = 0.99
    """How much of the slow adapter stays in a step; the authors' code has 0.25"""
    weight: float = 1.0
    """What the distance of the states is multiplied with"""
    target: str = "slow"
    """What states keep to: slow (those of the slow network) or larger (the larger of both)"""
    merge: str = "fast"
    """Which adapter ends in the weights: fast or slow"""

    def __post_init__(self) -> None:
        check_numbers(self, "i_lora", not_negative=("weight",), below_one=("rate",))
        check_choices(self, "i_lora", target=("slow", "larger"), merge=("fast", "slow"))


@dataclass(frozen=True)
class RegLoraOptions:
    """How adapters keep off what earlier ones moved."""

    weight: float = 2500.0
    """What the term is multiplied with"""
    share: float = 0.02
    """Share of the entries of each layer that an update marks"""

    def __post_init__(self) -> None:
        check_numbers(self, "reglora", not_negative=("weight",), share=("share",))


@dataclass(frozen=True)
class LocasOptions:
    """The side memories of an update."""

    units: int = 16
    """Hidden units of each"""
    end: str = "merge"
    """What becomes of them: merge (further units of the network) or drop"""

    def __post_init__(self) -> None:
        check_numbers(self, "locas", at_least_one=("units",))
        check_choices(self, "locas", end=("merge", "drop"))


@dataclass(frozen=True)
class ViewBatchOptions:
    """How documents come in views."""

    views: int = 4
    """Examples of a document in a batch"""
    weight: float = 1.0
    """What the divergence of the other views from the first is multiplied with; 0 for none"""

    def __post_init__(self) -> None:
        check_numbers(self, "view_batch", not_negative=("weight",))
        if self.views < 2:
            raise InputError(f"--view_batch.views {self.views} is less than 2")


@dataclass(frozen=True)
class UpdateOptions:
    """How new documents enter an index. None stands for what the index was trained with."""

    strategy: str = "auto"
    """What the model learns from, and how old documents are kept; joined by plus signs. auto:
    append where the network was not trained or its output rows stayed as they were, else
    generative+ewc"""
    ratio: float = 2.0
    """DSI++'s r: texts of documents that are learned for each query, labelled or pseudo; 0 for
    none"""
    new_share: float | None = None
    """Share of the examples that are about new documents; by default their share of all
    documents"""
    steps: int | None = None
    """Optimiser steps; by default a tenth of those of the first training"""
    batch: int | None = None
    """Examples per step; by default that of the first training"""
    lr: float | None = None
    """Highest learning rate; by default that of the first training"""
    generator: str = "auto"
    """Whose pseudo-queries new documents get; auto is that of the old ones"""
    per_doc: int | None = None
    """Pseudo-queries a document; by default as many as the old ones have"""
    seed: int = 0
    """Of everything drawn at random"""
    warn_loss: float = 1.0
    """Points of Hits@10 on the kept probe queries whose loss is warned of"""
    refuse_loss: float | None = None
    """Points of Hits@10 on the kept probe queries with whose loss the new version is not written"""
    probe_queries: int = 500
    """Most queries of the probe set"""
    instant: InstantOptions = field(default_factory=InstantOptions)
    """Options of the strategy instant"""
    ewc: EwcOptions = field(default_factory=EwcOptions)
    """Options of the strategy ewc"""
    rank1: RankOneOptions = field(default_factory=RankOneOptions)
    """Options of the strategy rank1-ewc"""
    margin: MarginOptions = field(default_factory=MarginOptions)
    """Options of the strategy threshold-margin"""
    batch_softmax: BatchSoftmaxOptions = field(default_factory=BatchSoftmaxOptions)
    """Options of the strategy batch-softmax"""
    distill: DistillOptions = field(default_factory=DistillOptions)
    """Options of the strategy distill"""
    sam: SamStrategyOptions = field(default_factory=SamStrategyOptions)
    """Options of the strategy sam"""
    warm_up: WarmUpOptions = field(default_factory=WarmUpOptions)
    """Options of the strategy warm-up"""
    view_batch: ViewBatchOptions = field(default_factory=ViewBatchOptions)
    """Options of the strategy view-batch"""
    lora: AdapterOptions = field(default_factory=AdapterOptions)
    """The adapter of the strategies lora, i-lora and reglora"""
    i_lora: InterpolationOptions = field(default_factory=InterpolationOptions)
    """Options of the strategy i-lora"""
    reglora: RegLoraOptions = field(default_factory=RegLoraOptions)
    """Options of the strategy reglora"""
    locas: LocasOptions = field(default_factory=LocasOptions)
    """Options of the strategy locas"""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            positive=("lr",),
            not_negative=("ratio", "seed", "warn_loss", "refuse_loss"),
            at_least_one=("steps", "batch", "per_doc", "probe_queries"),
            share=("new_share",),
        )
        check_choices(self, generator=("auto", *GENERATORS))
