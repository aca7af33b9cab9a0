"""Generators of pseudo-queries that need a neural network; importing this registers them."""

from __future__ import annotations

from dsi.generation.memory import GenerativeMemory, Memory, MemoryOptions, train_memory
from dsi.generation.seq2seq import Seq2Seq, Seq2SeqOptions

__all__ = [
    "GenerativeMemory",
    "Memory",
    "MemoryOptions",
    "Seq2Seq",
    "Seq2SeqOptions",
    "train_memory",
]
