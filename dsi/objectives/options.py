"""The terms of the loss and their weights; the text under a field is its help."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, ClassVar, Literal

from data_prep.checks import Options, given, refuse_unread
from data_prep.errors import InputError
from data_prep.marks import Advanced, Count, Needs, NotNegative, Positive, hints_of


@dataclass(frozen=True)
class TermOptions(Options, switch="weight"):
    """Options of a term of the loss.

    Attributes:
        weight: Factor of the term; without it, its other options have no effect.
        reads: The options of the teacher that the term reads. One that no term reads is refused.
    """

    weight: Advanced[NotNegative] = 0.0
    reads: ClassVar[frozenset[str]] = frozenset()


_CANDIDATES = frozenset({"kind", "model", "candidates"})


@dataclass(frozen=True)
class CrossEntropyOptions(TermOptions, group="objectives.cross_entropy"):
    """Negative log-probability of the right identifier."""

    weight: Advanced[NotNegative] = 1.0
    """Weight of the cross-entropy"""


@dataclass(frozen=True)
class RDropOptions(TermOptions, group="objectives.r_drop"):
    """Two passes with different dropout must agree (R-Drop; NCI takes 0.15)."""

    weight: Advanced[NotNegative] = 0.0
    """Weight of R-Drop (0.15 in NCI); needs dropout"""


@dataclass(frozen=True)
class ContrastiveOptions(TermOptions, group="objectives.contrastive"):
    """States at the same code attract each other (supervised contrastive learning)."""

    weight: Advanced[NotNegative] = 0.0
    """Weight of the supervised contrastive loss of decoder states, for updates by kernel"""
    temperature: Advanced[Positive] = 0.1
    """Temperature of the cosines"""


@dataclass(frozen=True)
class PrefixMarginOptions(TermOptions, group="objectives.prefix_margin"):
    """The score margins of identifier prefixes follow the teacher's (RIPOR)."""

    weight: Advanced[NotNegative] = 0.0
    """Weight of the prefix-margin loss (1 in RIPOR, without cross-entropy)"""

    reads = _CANDIDATES | {"temperature"}


@dataclass(frozen=True)
class RankOptions(TermOptions, group="objectives.rank"):
    """The teacher's candidates are ranked below the right document, or in the teacher's order."""

    weight: Advanced[NotNegative] = 0.0
    """Weight of the ranking loss"""
    form: Advanced[Literal["margin", "listmle"]] = "margin"
    """margin: keep the relevant document ahead of the teacher's candidates (LTRGR); listmle:
    likelihood of the teacher's order, the relevant document first"""
    margin: Advanced[Annotated[NotNegative, Needs("form", ("margin",))]] = 1.0
    """Margin, in log-probability"""

    reads = _CANDIDATES


@dataclass(frozen=True)
class DistillationOptions(TermOptions, group="objectives.distillation"):
    """The model's distribution over documents follows the teacher's."""

    weight: NotNegative = 0.0
    """Weight of the distillation loss"""
    over: Advanced[Literal["auto", "all", "candidates"]] = "auto"
    """Documents in the softmax. auto is all for identifiers of one code, candidates otherwise"""

    reads = _CANDIDATES | {"temperature"}


@dataclass(frozen=True)
class TeacherOptions(Options, group="objectives.teacher"):
    """The teacher, which runs once before training."""

    kind: Literal["bm25", "embeddings", "cross-encoder"] = "bm25"
    """Model that scores the candidates once before training. embeddings: a sentence-transformers
    model; cross-encoder: rescores BM25's candidates"""
    model: Annotated[str | None, Needs("kind", ("embeddings", "cross-encoder"))] = None
    """Embedding model or cross-encoder: hub id or path"""
    candidates: Advanced[Count] = 8
    """Candidates per query, in addition to the relevant document"""
    temperature: Advanced[Positive] = 1.0
    """Temperature of the teacher scores; about 0.05 suits cosines"""

    def conflicts(self) -> None:
        """Refuses a teacher without its model."""
        if self.kind != "bm25" and self.model is None:
            raise InputError(
                f"--objectives.teacher.kind {self.kind} needs a model",
                hint="Give --objectives.teacher.model, or use --objectives.teacher.kind bm25",
            )


@dataclass(frozen=True)
class ObjectiveOptions(Options, group="objectives"):
    """The terms of the loss; terms of weight 0 are left out."""

    cross_entropy: CrossEntropyOptions = field(default_factory=CrossEntropyOptions)
    """Cross-entropy"""
    r_drop: RDropOptions = field(default_factory=RDropOptions)
    """R-Drop: two passes with different dropout agree"""
    contrastive: ContrastiveOptions = field(default_factory=ContrastiveOptions)
    """Contrastive: states at the same code attract each other"""
    prefix_margin: PrefixMarginOptions = field(default_factory=PrefixMarginOptions)
    """Prefix margin: score margins of prefixes follow the teacher's (RIPOR)"""
    rank: RankOptions = field(default_factory=RankOptions)
    """Ranking loss: the teacher's candidates rank below the relevant document, or in its order"""
    distillation: DistillationOptions = field(default_factory=DistillationOptions)
    """Distillation from the teacher"""
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    """Teacher"""

    def conflicts(self) -> None:
        """Refuses a loss without terms, and options of a teacher that no term reads."""
        if not any(self.weights.values()):
            raise InputError(
                "every term of --objectives has weight 0",
                hint="Use --objectives.cross_entropy.weight 1, or set the weight of another term",
            )
        read = {option for term in self._teacher_terms() for option in TEACHER_TERMS[term]}
        for name in sorted(set(given(self.teacher)) - read):
            readers = [term for term, options in TEACHER_TERMS.items() if name in options]
            refuse_unread(
                self.teacher,
                [name],
                "without a loss term that uses it",
                hint=f"Omit it, or give one of {', '.join(readers)} a weight: "
                "--objectives.distillation.weight 1",
            )

    @property
    def weights(self) -> dict[str, float]:
        """The weight of every term by name."""
        return {
            entry.name: getattr(self, entry.name).weight
            for entry in fields(self)
            if entry.name != "teacher"
        }

    @property
    def needs_teacher(self) -> bool:
        """Whether a term needs the teacher."""
        return bool(self._teacher_terms())

    def _teacher_terms(self) -> list[str]:
        return [name for name in TEACHER_TERMS if self.weights[name]]


TEACHER_TERMS = {
    name: options.reads
    for name, options in hints_of(ObjectiveOptions).items()
    if getattr(options, "reads", None)
}
"""The terms that need a teacher, each with the teacher options that it reads."""
