"""Baselines: lexical, dense, and their fusion."""

from data_prep.registry import import_entries
from dsi.evaluation.baselines.base import BASELINES, Baseline, baseline_run, make_baseline

import_entries(__name__, __path__)

__all__ = ["BASELINES", "Baseline", "baseline_run", "make_baseline"]
