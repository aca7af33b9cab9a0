"""Named benchmarks: recipes that make a collection of a public release, found by name."""

from __future__ import annotations

import importlib
import pkgutil

from data_prep.benchmarks.base import BENCHMARKS, Benchmark

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = ["BENCHMARKS", "Benchmark"]
