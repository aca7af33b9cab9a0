"""Named benchmarks: recipes that make a collection of a public release, found by name."""

from __future__ import annotations

from data_prep.benchmarks.base import BENCHMARKS, Benchmark
from data_prep.registry import import_entries

import_entries(__name__, __path__)

__all__ = ["BENCHMARKS", "Benchmark"]
