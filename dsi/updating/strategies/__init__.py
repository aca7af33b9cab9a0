"""Strategies: what an update trains on and how it keeps old documents; one file each, by name.

A strategy is written as names with plus signs between, such as `generative+ewc`.
"""

from __future__ import annotations

import importlib
import pkgutil

from dsi.updating.strategies.base import STRATEGIES, Strategy, parse_strategies

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = ["STRATEGIES", "Strategy", "parse_strategies"]
