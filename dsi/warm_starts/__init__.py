"""Weights before the first step: chosen by name, one file each."""

from dsi.warm_starts import encodings, spectral
from dsi.warm_starts.base import WARM_STARTS, Corpus, WarmStart

__all__ = ["WARM_STARTS", "Corpus", "WarmStart", "encodings", "spectral"]
