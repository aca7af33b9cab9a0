"""All options of an update; the string below a field is its help text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from data_prep.checks import Options
from data_prep.errors import InputError
from data_prep.generators import GENERATORS
from data_prep.marks import (
    Advanced,
    Count,
    Names,
    Needs,
    NotNegative,
    Open,
    Positive,
    PositiveShare,
    Range,
    Rank,
    Rate,
    Seed,
    Whole,
)

GeneratorName = Annotated[str, Names(lambda: ("auto", *GENERATORS))]


@dataclass(frozen=True)
class InstantOptions(Options, group="instant"):
    """How the row of a new document is solved for."""

    solver: Advanced[Literal["lbfgs", "closed"]] = "lbfgs"
    """lbfgs: minimize the objective; closed: solve its least-squares form"""
    lam: Advanced[Open] = 0.5
    """Weight of the new-document loss; the old-document loss gets the rest"""
    margin_new: Advanced[float] = 1.0
    """Margin by which a new document must win its own queries, in logits"""
    margin_old: Advanced[float] = 1.0
    """Margin by which a new document must lose the queries of others, in logits"""
    l2: Advanced[Positive] = 1.0
    """L2 penalty on the distance from the anchor"""
    anchor: Advanced[Literal["start", "zero"]] = "start"
    """Anchor of the L2 penalty: the initial row, or zero (as in the paper)"""
    queries: Advanced[Count] = 15
    """Maximum queries averaged per document"""
    competitors: Advanced[Count] = 200
    """Old documents in the objective at a time"""
    iterations: Advanced[Count] = 30
    """Maximum L-BFGS iterations"""


@dataclass(frozen=True)
class EditOptions(Options, group="edit"):
    """How the edit of the decoder is solved for."""

    queries: Advanced[Count] = 15
    """Maximum pseudo-queries per document"""
    subsets: Advanced[Whole] = 15
    """Random sets of eight of its words per document, used like pseudo-queries"""
    lam: Advanced[Positive | None] = None
    """Weight of old documents' keys; default: the lowest from 1 to 100,000, in half powers of ten,
    that keeps the probe queries within --edit.tolerance"""
    tolerance: Advanced[NotNegative] = 0.5
    """Points of Hits@10 that the edit may cost on the probe queries, where the weight is chosen"""
    steps: Advanced[Count] = 30
    """Maximum steps to find the target output of the layer"""
    rate: Advanced[Positive] = 0.5
    """Initial learning rate of these steps, relative to the size of the state"""
    distance: Advanced[NotNegative] = 0.2
    """Weight of the relative size of the change of the output"""
    enough: Advanced[Open] = 0.9
    """Probability of the code at which the search stops"""
    rows: Advanced[bool] = True
    """First solve for the rows of codes that only new documents have, as instant does"""
    words: Advanced[bool] = True
    """First write the embeddings of words that no old document has, from the words beside them"""
    samples: Advanced[Count] = 20000
    """Maximum old pseudo-queries, and old sets of words, whose keys are read, once per index"""


@dataclass(frozen=True)
class KernelOptions(Options, group="kernel"):
    """How output rows are regressed on states."""

    features: Literal["linear", "fourier"] = "linear"
    """linear: the states; fourier: random Fourier features, for a Gaussian kernel"""
    size: Advanced[Annotated[Count, Needs("features", ("fourier",))]] = 1024
    """Fourier features"""
    bandwidth: Advanced[Annotated[Positive | None, Needs("features", ("fourier",))]] = None
    """Bandwidth of the Gaussian; default: the median distance of states"""
    samples: Advanced[Count] = 30
    """Pseudo-queries that are written for each document, old or new; none is kept"""
    subsets: Advanced[Whole] = 15
    """Random sets of eight of its words per document, used like pseudo-queries"""
    words: Advanced[bool] = True
    """First write the embeddings of words that no old document has, from the words beside them"""
    loss: Literal["softmax", "squares"] = "softmax"
    """softmax: cross-entropy over the codes that the trie allows, by L-BFGS; squares: squared
    distance of scores from 0 and 1, in closed form"""
    iterations: Advanced[Annotated[Count, Needs("loss", ("softmax",))]] = 20
    """Maximum iterations of L-BFGS"""
    lam: Advanced[Positive | None] = None
    """Ridge, relative to the mean square of features. Default: 0.00001 with --kernel.loss softmax;
    with squares, of 0.001, ..., 10 the one with which held-out samples are most probable"""


@dataclass(frozen=True)
class RefitOptions(Options, group="refit"):
    """How output rows are regressed on the states of a network that is computed anew."""

    samples: Advanced[Count] = 30
    """Pseudo-queries that are written for each document, old or new; none is kept"""
    subsets: Advanced[Whole] = 30
    """Random sets of eight of its words per document, used like pseudo-queries"""
    iterations: Advanced[Count] = 20
    """Maximum iterations of L-BFGS"""
    lam: Advanced[Positive] = 1e-6
    """Ridge, relative to the mean square of states"""


@dataclass(frozen=True)
class PamtOptions(Options, group="pamt"):
    """The memory before the output layer."""

    keys: Advanced[Count] = 32
    """Keys of each half of a state in a new memory, which has keys * keys rows"""
    top: Advanced[Annotated[int, Range(ge=1, le=1024)]] = 8
    """Rows that a state reads in a new memory"""
    rows: Advanced[Count] = 64
    """Maximum rows of the memory that an update moves"""
    steps: Advanced[Count] = 200
    """Steps of Adam on these rows"""
    rate: Advanced[Positive] = 0.1
    """Learning rate of these steps, relative to the size of the states"""
    l2: Advanced[NotNegative] = 10.0
    """Weight of the squared size of what is added to a state, relative to that of the state"""
    queries: Advanced[Count] = 15
    """Maximum queries per document"""
    samples: Advanced[Count] = 5000
    """Maximum old queries whose reads are counted"""
    solve: Advanced[bool] = True
    """First solve for the rows of codes that only new documents have, as instant does"""


@dataclass(frozen=True)
class EwcOptions(Options, group="ewc"):
    """How weights are held."""

    weight: Advanced[NotNegative] = 1000.0
    """Weight of the EWC penalty"""
    samples: Advanced[Count] = 64
    """Old examples to estimate the Fisher information on"""


@dataclass(frozen=True)
class RankOneOptions(Options, group="rank1"):
    """How moves along the mean gradient are held."""

    weight: Advanced[NotNegative] = 1000.0
    """Weight of the penalty"""
    samples: Advanced[Count] = 64
    """Old examples to estimate the mean gradient on"""


@dataclass(frozen=True)
class MarginOptions(Options, group="margin"):
    """How the pattern of states is kept."""

    weight: Advanced[NotNegative] = 1.0
    """Weight of the threshold-margin loss (GeRe: 100, for language models)"""
    samples: Advanced[Count] = 256
    """Old queries whose hidden states are kept"""
    batch: Advanced[Count] = 64
    """Old queries per step"""


@dataclass(frozen=True)
class BatchSoftmaxOptions(Options, group="batch_softmax"):
    """How sharp the softmax over the batch is."""

    temperature: Advanced[Positive] = 0.09
    """Temperature of the cosine similarities"""


@dataclass(frozen=True)
class DistillOptions(Options, group="distill"):
    """How the version before is kept to."""

    kl: Advanced[NotNegative] = 1.0
    """Weight of the KL divergence from the previous version"""
    pcd: Advanced[NotNegative] = 0.0
    """Weight of the squared difference of logits (HPCR: 0.1)"""
    scd: Advanced[NotNegative] = 0.0
    """Weight of the cross-entropy of similarities between examples (HPCR: 0.5)"""
    temperature: Advanced[Positive] = 0.09
    """Temperature of the cosine similarities"""

    def conflicts(self) -> None:
        """Refuses a distillation of nothing."""
        if not (self.kl or self.pcd or self.scd):
            raise InputError(
                "--distill.kl, --distill.pcd and --distill.scd are all 0",
                hint="Set at least one of them above 0, or remove distill from --strategy",
            )


@dataclass(frozen=True)
class SamStrategyOptions(Options, group="sam"):
    """How far the worst point nearby is looked for."""

    rho: Advanced[Positive] = 0.05
    """Radius of the perturbation; 0.15 is usual with --sam.adaptive"""
    adaptive: Advanced[bool] = False
    """Scale the perturbation by the size of each weight (ASAM)"""


@dataclass(frozen=True)
class WarmUpOptions(Options, group="warm_up"):
    """How long new documents take to reach their full proportion."""

    part: Advanced[PositiveShare] = 0.5
    """Fraction of the steps over which the proportion of new documents rises"""


@dataclass(frozen=True)
class PromptsOptions(Options, group="prompts"):
    """The prompts of an update."""

    topics: Advanced[Count] = 10
    """New prompts of an update, one for each topic of the new documents' pseudo-queries"""
    tokens: Advanced[Count] = 4
    """Tokens of a prompt in a new pool"""
    lr: Advanced[Positive] = 0.02
    """Peak learning rate of prompts and new rows, unless --lr is given. They are few, and the rate
    at which a whole network is trained hardly moves them"""


@dataclass(frozen=True)
class PeriodsOptions(Options, group="periods"):
    """How often weights move."""

    every: Advanced[Annotated[int, Range(ge=2)]] = 2
    """Top layers move once in so many updates, each layer below once in this many times as many;
    embeddings and output rows move at every update"""
    longest: Advanced[Annotated[int, Range(ge=2)]] = 8
    """The longest period, in updates"""


@dataclass(frozen=True)
class AdapterOptions(Options, group="lora"):
    """The low-rank adapter of an update."""

    rank: Advanced[Rank | None] = None
    """Rank of the adapter; default: that of the first training, or 8"""
    alpha: Advanced[Count | None] = None
    """LoRA alpha; default: twice the rank"""
    dropout: Advanced[Rate] = 0.0
    """Dropout rate of the adapter's input"""


@dataclass(frozen=True)
class InterpolationOptions(Options, group="i_lora"):
    """The slow adapter beside the fast one."""

    rate: Advanced[Rate] = 0.99
    """Decay of the slow adapter's moving average (the authors' code: 0.25)"""
    weight: Advanced[NotNegative] = 1.0
    """Weight of the distance between the two adapters' states"""
    target: Advanced[Literal["slow", "larger"]] = "slow"
    """States to stay close to: those of the slow adapter, or the larger of both"""
    merge: Advanced[Literal["fast", "slow"]] = "fast"
    """Adapter to merge into the weights at the end"""


@dataclass(frozen=True)
class RegLoraOptions(Options, group="reglora"):
    """How adapters keep off what earlier ones moved."""

    weight: Advanced[NotNegative] = 2500.0
    """Weight of the regularizer"""
    fraction: Advanced[PositiveShare] = 0.02
    """Fraction of entries per layer that an update marks as important"""


@dataclass(frozen=True)
class LocasOptions(Options, group="locas"):
    """The side memories of an update."""

    units: Advanced[Count] = 16
    """Hidden units per side memory"""
    end: Advanced[Literal["merge", "drop"]] = "merge"
    """Merge the side memories into the network at the end, or drop them"""


@dataclass(frozen=True)
class UpdateOptions(Options):
    """How new documents enter an index. None stands for what the index was trained with."""

    strategy: str = "auto"
    """Combine strategies with +, as in generative+ewc (docs/updating.md). auto: append if the
    network was not trained or its output rows are frozen, generative+ewc otherwise"""
    ratio: NotNegative = 2.0
    """Document texts per query in training (r of DSI++); 0 for none"""
    new_fraction: PositiveShare | None = None
    """Fraction of examples from new documents; default: their fraction of all documents"""
    steps: Count | None = None
    """Optimizer steps; default: a tenth of the first training"""
    batch: Count | None = None
    """Examples per step; default: as in the first training"""
    lr: Positive | None = None
    """Peak learning rate; default: as in the first training"""
    generator: GeneratorName = "auto"
    """Pseudo-query generator for new documents; auto is that of the old ones"""
    per_doc: Count | None = None
    """Pseudo-queries per document; default: as many as the old ones have"""
    seed: Seed = 0
    """Random seed"""
    warn_loss: NotNegative = 1.0
    """Warn if Hits@10 on the probe queries falls by more than this many points"""
    refuse_loss: NotNegative | None = None
    """Refuse the update if Hits@10 on the probe queries falls by more than this many points"""
    probe_queries: Advanced[Count] = 500
    """Maximum number of probe queries"""
    instant: Advanced[InstantOptions] = field(default_factory=InstantOptions)
    """Strategy instant"""
    edit: Advanced[EditOptions] = field(default_factory=EditOptions)
    """Strategy edit (its rows: --instant)"""
    kernel: Advanced[KernelOptions] = field(default_factory=KernelOptions)
    """Strategy kernel"""
    refit: Advanced[RefitOptions] = field(default_factory=RefitOptions)
    """Strategy refit"""
    pamt: Advanced[PamtOptions] = field(default_factory=PamtOptions)
    """Strategy pamt (its rows of codes: --instant)"""
    ewc: Advanced[EwcOptions] = field(default_factory=EwcOptions)
    """Strategy ewc"""
    rank1: Advanced[RankOneOptions] = field(default_factory=RankOneOptions)
    """Strategy rank1-ewc"""
    margin: Advanced[MarginOptions] = field(default_factory=MarginOptions)
    """Strategy threshold-margin"""
    batch_softmax: Advanced[BatchSoftmaxOptions] = field(default_factory=BatchSoftmaxOptions)
    """Strategy batch-softmax"""
    distill: Advanced[DistillOptions] = field(default_factory=DistillOptions)
    """Strategy distill"""
    sam: Advanced[SamStrategyOptions] = field(default_factory=SamStrategyOptions)
    """Strategy sam"""
    warm_up: Advanced[WarmUpOptions] = field(default_factory=WarmUpOptions)
    """Strategy warm-up"""
    prompts: Advanced[PromptsOptions] = field(default_factory=PromptsOptions)
    """Strategy prompts"""
    periods: Advanced[PeriodsOptions] = field(default_factory=PeriodsOptions)
    """Strategy periods"""
    lora: Advanced[AdapterOptions] = field(default_factory=AdapterOptions)
    """LoRA (strategies lora, i-lora and reglora)"""
    i_lora: Advanced[InterpolationOptions] = field(default_factory=InterpolationOptions)
    """Strategy i-lora"""
    reglora: Advanced[RegLoraOptions] = field(default_factory=RegLoraOptions)
    """Strategy reglora"""
    locas: Advanced[LocasOptions] = field(default_factory=LocasOptions)
    """Strategy locas"""
