"""Weights before the first step: chosen by name, one file each."""

from data_prep.registry import import_entries
from dsi.warm_starts.base import WARM_STARTS, Codebooks, Corpus, WarmStart

import_entries(__name__, __path__)

__all__ = ["WARM_STARTS", "Codebooks", "Corpus", "WarmStart"]
