"""Named benchmarks: recipes that build a collection from a public release, registered by name."""

from __future__ import annotations

from data_prep.benchmarks.base import BENCHMARKS, Benchmark
from data_prep.registry import import_entries

import_entries(__name__, __path__)

__all__ = ["BENCHMARKS", "Benchmark"]
