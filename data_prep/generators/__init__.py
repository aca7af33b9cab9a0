"""Generators: how a document gets pseudo-queries, one file each, found by name.

`data_prep.generate.generate_queries` runs one over a Dataset. Generators that need a neural
network are in `dsi.generation`, which registers them here when it is imported.
"""

from __future__ import annotations

import importlib
import pkgutil

from data_prep.generators.base import GENERATORS, Generator, GeneratorOptions, PseudoQuery

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = ["GENERATORS", "Generator", "GeneratorOptions", "PseudoQuery"]
