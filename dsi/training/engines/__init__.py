"""Engines: how one or several processes hold a model's state and synchronize it."""

from dsi.training.engines.base import Engine

__all__ = ["Engine"]
