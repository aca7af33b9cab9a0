"""Weights before the first step: chosen by name, one file each."""

from dsi.warm_starts import encodings, learned, none, spectral
from dsi.warm_starts.base import WARM_STARTS, Codebooks, Corpus, WarmStart

__all__ = [
    "WARM_STARTS",
    "Codebooks",
    "Corpus",
    "WarmStart",
    "encodings",
    "learned",
    "none",
    "spectral",
]
