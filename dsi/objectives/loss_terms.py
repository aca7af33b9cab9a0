"""Builds the list of loss terms of a run from its options."""

from __future__ import annotations

from typing import Any

from data_prep.errors import InputError
from data_prep.registry import import_entries
from dsi import objectives
from dsi.objectives.base import OBJECTIVES, Objective
from dsi.objectives.candidates import TeacherObjective
from dsi.objectives.options import ObjectiveOptions
from dsi.teachers.scores import TeacherScores

import_entries(objectives.__name__, objectives.__path__)


def make_objectives(
    options: ObjectiveOptions,
    *,
    label_smoothing: float = 0.0,
    teacher_scores: TeacherScores | None = None,
) -> list[Objective]:
    """Returns the terms with a nonzero weight.

    Args:
        options: Weights and options of the terms.
        label_smoothing: Label smoothing of the cross-entropy.
        teacher_scores: Candidates and scores of the teacher; required by terms that use them.

    Raises:
        InputError: A term needs teacher scores, but there are none.
    """
    terms: list[Objective] = []
    for name, weight in options.weights.items():
        if not weight:
            continue
        kind = OBJECTIVES[name]
        knobs: dict[str, Any] = {**vars(getattr(options, name)), "weight": weight}
        if issubclass(kind, TeacherObjective):
            if teacher_scores is None:
                raise InputError(f"the term {name} needs a teacher, and there is none")
            knobs["teacher_scores"] = teacher_scores
        if name == "cross_entropy":
            knobs["label_smoothing"] = label_smoothing
        terms.append(kind(**knobs))
    return terms
