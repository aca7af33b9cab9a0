"""From options to the list of terms that a run trains with."""

from __future__ import annotations

from typing import Any

from data_prep.errors import InputError
from data_prep.registry import import_entries
from dsi import objectives
from dsi.objectives.base import OBJECTIVES, Objective
from dsi.objectives.candidates import TaughtObjective
from dsi.objectives.options import ObjectiveOptions
from dsi.teachers.lessons import Lessons

import_entries(objectives.__name__, objectives.__path__)


def make_objectives(
    options: ObjectiveOptions, *, label_smoothing: float = 0.0, lessons: Lessons | None = None
) -> list[Objective]:
    """Returns the terms that have a weight.

    Args:
        options: Weights and knobs.
        label_smoothing: Of the cross-entropy.
        lessons: What the teacher said; needed where a term asks it.

    Raises:
        InputError: A term asks a teacher, and there are no lessons.
    """
    terms: list[Objective] = []
    for name, weight in options.weights.items():
        if not weight:
            continue
        kind = OBJECTIVES[name]
        knobs: dict[str, Any] = {**vars(getattr(options, name)), "weight": weight}
        if issubclass(kind, TaughtObjective):
            if lessons is None:
                raise InputError(f"the term {name} asks a teacher, and there is none")
            knobs["lessons"] = lessons
        if name == "cross_entropy":
            knobs["label_smoothing"] = label_smoothing
        terms.append(kind(**knobs))
    return terms
