"""Weights for documents that come later, before the first step: one file for each warm start."""

from dsi.updating.growth import encodings, neighbours, spectral
from dsi.updating.growth.base import GROWTHS, Growth, Newcomers, grow

__all__ = ["GROWTHS", "Growth", "Newcomers", "encodings", "grow", "neighbours", "spectral"]
