"""Terms of the loss, one idea per file."""

from dsi.objectives.base import IGNORED, Forward, Objective, Targets
from dsi.objectives.cross_entropy import CrossEntropy

__all__ = ["IGNORED", "CrossEntropy", "Forward", "Objective", "Targets"]
