"""Strategies: what an update trains on and how it keeps old documents; one file each, by name.

A strategy is written as names with plus signs between, such as `generative+ewc`.
"""

from __future__ import annotations

from data_prep.registry import import_entries
from dsi.updating.strategies.base import STRATEGIES, Strategy, parse_strategies

import_entries(__name__, __path__)

__all__ = ["STRATEGIES", "Strategy", "parse_strategies"]
