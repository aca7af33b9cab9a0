"""Teachers: rankers that run once, before training, and are imitated by terms of the loss."""

from data_prep.registry import import_entries
from dsi.teachers.base import TEACHERS, Teacher

import_entries(__name__, __path__)

__all__ = ["TEACHERS", "Teacher"]
