"""The terms of the loss and their weights; the text under a field is its help."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from data_prep.checks import check_choices, check_numbers
from data_prep.errors import InputError
from data_prep.marks import Advanced

TEACHER_TERMS = ("prefix_margin", "rank", "distillation")
"""The terms that ask a teacher."""


@dataclass(frozen=True)
class CrossEntropyOptions:
    """Negative log-probability of the right identifier."""

    weight: Advanced[float] = 1.0
    """Weight of the cross-entropy"""


@dataclass(frozen=True)
class RDropOptions:
    """Two passes with different dropout must agree (R-Drop; NCI takes 0.15)."""

    weight: Advanced[float] = 0.0
    """Weight of R-Drop (0.15 in NCI); needs dropout"""


@dataclass(frozen=True)
class PrefixMarginOptions:
    """The score margins of identifier prefixes follow the teacher's (RIPOR)."""

    weight: Advanced[float] = 0.0
    """Weight of the prefix-margin loss (1 in RIPOR, without cross-entropy)"""


@dataclass(frozen=True)
class RankOptions:
    """The teacher's candidates are ranked below the right document, or in the teacher's order."""

    weight: Advanced[float] = 0.0
    """Weight of the ranking loss"""
    form: Advanced[Literal["margin", "listmle"]] = "margin"
    """margin: keep the relevant document ahead of the teacher's candidates (LTRGR); listmle:
    likelihood of the teacher's order, the relevant document first"""
    margin: Advanced[float] = 1.0
    """Margin, in log-probability"""


@dataclass(frozen=True)
class DistillationOptions:
    """The model's distribution over documents follows the teacher's."""

    weight: float = 0.0
    """Weight of the distillation loss"""
    over: Advanced[Literal["auto", "all", "candidates"]] = "auto"
    """Documents in the softmax. auto is all for identifiers of one code, candidates otherwise"""


@dataclass(frozen=True)
class TeacherOptions:
    """The teacher, which runs once before training."""

    kind: Literal["bm25", "embeddings", "cross-encoder"] = "bm25"
    """Model that scores the candidates once before training. embeddings: a sentence-transformers
    model; cross-encoder: rescores BM25's candidates"""
    model: str | None = None
    """Embedding model or cross-encoder: hub id or path"""
    candidates: Advanced[int] = 8
    """Candidates per query, in addition to the relevant document"""
    temperature: Advanced[float] = 1.0
    """Temperature of the teacher scores; about 0.05 suits cosines"""


@dataclass(frozen=True)
class ObjectiveOptions:
    """The terms of the loss; terms of weight 0 are left out."""

    cross_entropy: CrossEntropyOptions = field(default_factory=CrossEntropyOptions)
    """Cross-entropy"""
    r_drop: RDropOptions = field(default_factory=RDropOptions)
    """R-Drop: two passes with different dropout agree"""
    prefix_margin: PrefixMarginOptions = field(default_factory=PrefixMarginOptions)
    """Prefix margin: score margins of prefixes follow the teacher's (RIPOR)"""
    rank: RankOptions = field(default_factory=RankOptions)
    """Ranking loss: the teacher's candidates rank below the relevant document, or in its order"""
    distillation: DistillationOptions = field(default_factory=DistillationOptions)
    """Distillation from the teacher"""
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    """Teacher"""

    def __post_init__(self) -> None:
        for name in self.weights:
            check_numbers(getattr(self, name), f"objectives.{name}", not_negative=("weight",))
        check_numbers(self.rank, "objectives.rank", not_negative=("margin",))
        if not any(self.weights.values()):
            raise InputError(
                "every term of --objectives has weight 0",
                hint="Give --objectives.cross_entropy.weight 1, or another term a weight",
            )
        check_choices(self.rank, "objectives.rank")
        check_choices(self.distillation, "objectives.distillation")
        teacher = self.teacher
        check_numbers(
            teacher,
            "objectives.teacher",
            positive=("temperature",),
            at_least_one=("candidates",),
        )
        check_choices(teacher, "objectives.teacher")
        if (teacher.kind == "bm25") != (teacher.model is None):
            raise InputError(
                f"--objectives.teacher.kind {teacher.kind} "
                + ("takes no model" if teacher.kind == "bm25" else "needs a model"),
                hint="Give --objectives.teacher.model with the kinds embeddings and cross-encoder",
            )
        if not self.needs_teacher and teacher != TeacherOptions():
            raise InputError(
                "--objectives.teacher is set, but no term asks the teacher",
                hint=f"Give one of {', '.join(TEACHER_TERMS)} a weight: "
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
        return any(self.weights[name] for name in TEACHER_TERMS)
