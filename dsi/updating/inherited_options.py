"""Which options of the first training an update inherits, and which it drops."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from data_prep.rehearsal import RehearsalOptions
from dsi.objectives.options import TEACHER_TERMS

if TYPE_CHECKING:
    from dsi.indexing.options import TrainingOptions
    from dsi.objectives.base import Objective

ADAPTERS = ("lora", "i-lora", "reglora")


def inherited_terms(training: TrainingOptions, main: Objective | None) -> list[Objective]:
    """Returns the inherited terms of the loss: all that need no teacher.

    Args:
        training: The options of the first training.
        main: The term that replaces cross-entropy; None if none does.
    """
    from dsi.objectives.cross_entropy import CrossEntropy
    from dsi.objectives.loss_terms import make_objectives

    options = training.objectives
    without_teacher = replace(
        options,
        **{name: type(getattr(options, name))() for name in TEACHER_TERMS},
        teacher=type(options.teacher)(),
        # These terms alone do not train identifiers.
        cross_entropy=replace(
            options.cross_entropy,
            weight=options.cross_entropy.weight or float(options.needs_teacher),
        ),
    )
    terms = make_objectives(without_teacher, label_smoothing=training.loop.label_smoothing)
    if main is None:
        return terms
    return [main, *(term for term in terms if not isinstance(term, CrossEntropy))]


def not_inherited(training: TrainingOptions, strategies: Collection[str]) -> list[str]:
    """Returns sentences on features of the first training that these strategies do not use.

    Args:
        training: The options of the first training.
        strategies: Names of the strategies.
    """
    if {"retrain", "instant", "append", "refit"} & set(strategies):
        return []  # they repeat the first training, or train nothing
    names = []
    dropped = [name for name in TEACHER_TERMS if training.objectives.weights[name]]
    if dropped:
        names.append(
            f"The first training's terms {', '.join(dropped)} ask a teacher; an update is without"
        )
    if training.lora.rank and not set(ADAPTERS) & set(strategies):
        names.append(
            f"The first training moved adapters (--lora.rank {training.lora.rank}); this update "
            f"moves the network itself. For adapters: --strategy {'+'.join(strategies)}+lora"
        )
    if training.sam.rho and "sam" not in strategies:
        names.append(
            f"The first training was sharpness-aware (--sam.rho {training.sam.rho:g}); this "
            f"update is not. For that: --strategy {'+'.join(strategies)}+sam"
        )
    if training.rehearsal != RehearsalOptions():
        names.append(
            "The first training read parts of documents (--rehearsal); an update reads their "
            "beginnings"
        )
    return names
