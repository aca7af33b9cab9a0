"""Generators of pseudo-queries that need a neural network; importing this registers them."""

from __future__ import annotations

from dsi.generation.memory import GenerativeMemory, Memory, train_memory
from dsi.generation.memory_options import MemoryOptions
from dsi.generation.seq2seq import Seq2Seq, Seq2SeqOptions

__all__ = [
    "GenerativeMemory",
    "Memory",
    "MemoryOptions",
    "Seq2Seq",
    "Seq2SeqOptions",
    "train_memory",
]
