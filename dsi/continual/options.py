"""All options of a comparison of strategies; the string below a field is its help text."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from data_prep.checks import Options, check_value
from data_prep.errors import InputError
from data_prep.marks import Advanced, Count, NotNegative, Positive, PositiveShare, Seed, Whole
from dsi.data.options import MixOptions
from dsi.indexing.options import GeneratorName, KindName, TrainingOptions
from dsi.lexical.options import LexicalOptions
from dsi.text_encoders.text_encoder import VocabularyOptions
from dsi.training.options import LoopOptions, ModelOptions, OptimizerOptions
from dsi.updating.options import UpdateOptions

DEFAULT_STRATEGIES = "append,instant,finetune,generative+ewc,retrain"
"""Two strategies without training, the lower bound, the default for trained networks, and the
reference."""


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions(Options):
    """Number of runs of each strategy, and how often they are evaluated."""

    seeds: Count | list[int] = 3
    """Number of seeds, starting at 0; or the seeds themselves, separated by commas"""
    interval: Advanced[Whole] = 2
    """Steps between evaluations during an update; 0 for none"""
    curve_queries: Advanced[Count] = 200
    """Maximum queries and documents per corpus in these evaluations"""
    beams: Count | None = None
    """Beam width; default: that of the index"""

    def conflicts(self) -> None:
        """Refuses a list of seeds that is empty, or has a seed twice or a negative one."""
        if isinstance(self.seeds, int):
            return
        for seed in self.seeds:
            check_value("--seeds", seed, Seed)
        if not self.seeds:
            raise InputError("--seeds is empty", hint="Give a seed, or omit it")
        if len(set(self.seeds)) < len(self.seeds):
            raise InputError("the seeds must differ", where="--seeds")

    @property
    def each_seed(self) -> list[int]:
        """The seeds, in the order of the runs."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)


@dataclass(frozen=True)
class BaseOptions(Options):
    """How the index of D0 is trained."""

    docids: KindName = TrainingOptions.docids
    """Identifier kind"""
    generator: GeneratorName = TrainingOptions.generator
    """Pseudo-query generator"""
    per_doc: Count = TrainingOptions.per_doc
    """Pseudo-queries per document"""
    lexical: Advanced[LexicalOptions] = field(default_factory=LexicalOptions)
    """Lexical layer of D0"""
    vocabulary: Advanced[VocabularyOptions] = field(default_factory=VocabularyOptions)
    """Vocabulary of D0, for a model from scratch"""
    model: Advanced[ModelOptions] = field(default_factory=ModelOptions)
    """Model of D0"""
    mix: Advanced[MixOptions] = field(default_factory=MixOptions)
    """Data mix of D0"""
    optimizer: Advanced[OptimizerOptions] = field(default_factory=OptimizerOptions)
    """Optimizer of D0"""
    loop: Advanced[LoopOptions] = field(default_factory=LoopOptions)
    """Training loop of D0"""

    def training(self) -> TrainingOptions:
        """Returns the options of `dsi train`; those not offered here keep their defaults."""
        return TrainingOptions(**{entry.name: getattr(self, entry.name) for entry in fields(self)})


@dataclass(frozen=True)
class IncrementOptions(Options):
    """What the updates of all strategies share."""

    update_steps: Count | None = None
    """Optimizer steps per update; default: a tenth of the first training"""
    update_lr: Positive | None = None
    """Peak learning rate of the updates"""
    ratio: NotNegative = UpdateOptions.ratio
    """Document texts per query in an update; 0 for none"""
    new_fraction: PositiveShare | None = None
    """Fraction of an update's examples from new documents"""

    def update(self) -> UpdateOptions:
        """Returns the options of `dsi update`."""
        return UpdateOptions(
            steps=self.update_steps,
            lr=self.update_lr,
            ratio=self.ratio,
            new_fraction=self.new_fraction,
        )
