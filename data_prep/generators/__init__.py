"""Pseudo-query generators, one file each, registered by name.

`data_prep.generate.generate_queries` runs one over a Dataset. Generators that need a neural
network are in `dsi.generation`, which registers them here when it is imported.
"""

from __future__ import annotations

from data_prep.generators.base import GENERATORS, Generator, GeneratorOptions, PseudoQuery
from data_prep.registry import import_entries

import_entries(__name__, __path__)

__all__ = ["GENERATORS", "Generator", "GeneratorOptions", "PseudoQuery"]
