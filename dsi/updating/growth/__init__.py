"""Weights for documents that come later, before the first step: one file for each warm start."""

from data_prep.registry import import_entries
from dsi.updating.growth.base import GROWTHS, Growth, Newcomers, grow

import_entries(__name__, __path__)

__all__ = ["GROWTHS", "Growth", "Newcomers", "grow"]
