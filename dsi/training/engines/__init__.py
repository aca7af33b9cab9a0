"""How one model is trained by one process or many: who holds what, and when it is exchanged."""

from dsi.training.engines.base import Engine

__all__ = ["Engine"]
