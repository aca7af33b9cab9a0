"""Neural pseudo-query generators; importing this package registers them."""

from __future__ import annotations

from dsi.generation.generative_memory import (
    GenerativeMemory,
    GenerativeMemoryGenerator,
    train_memory,
)
from dsi.generation.generative_memory_options import MemoryOptions
from dsi.generation.seq2seq import Seq2Seq, Seq2SeqOptions

__all__ = [
    "GenerativeMemory",
    "GenerativeMemoryGenerator",
    "MemoryOptions",
    "Seq2Seq",
    "Seq2SeqOptions",
    "train_memory",
]
