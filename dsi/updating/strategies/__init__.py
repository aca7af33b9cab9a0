"""Update strategies: training data and retention of old documents; one file each, by name.

Strategies are combined with plus signs, as in `generative+ewc`.
"""

from __future__ import annotations

from data_prep.registry import import_entries
from dsi.updating.strategies.base import STRATEGIES, Strategy, parse_strategies

import_entries(__name__, __path__)

__all__ = ["STRATEGIES", "Strategy", "parse_strategies"]
