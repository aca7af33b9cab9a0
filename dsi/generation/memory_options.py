"""What a user can set about the generative memory; the text under a field is its help."""

from __future__ import annotations

from dataclasses import dataclass

from data_prep.checks import check_numbers
from data_prep.errors import InputError
from dsi.generation.sampling import SamplingOptions


@dataclass(frozen=True)
class MemoryOptions(SamplingOptions):
    """The generative memory: which model, how it is trained, how queries are drawn from it."""

    document_length: int = 96
    """Tokens of a document that are read"""
    query_length: int = 32
    """Most tokens of a query, in training and in writing"""
    folder: str | None = None
    """A memory that is there already, such as INDEX/versions/0001/memory"""
    pretrained: str | None = None
    """Hub id or path of an encoder-decoder to start from; strong where from scratch is weak"""
    width: int = 256
    """Width of a model from scratch"""
    layers: int = 1
    """Layers of its encoder, and of its decoder"""
    vocabulary: int = 4000
    """Most tokens of its vocabulary"""
    steps: int = 400
    """Training steps"""
    pairs: int = 16
    """Labelled pairs per step"""
    lr: float = 1e-3
    """Highest learning rate; take about 1e-4 for a pretrained model"""
    warmup: int = 50
    """Steps over which the learning rate rises from 0; it then falls to 0"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(
            self,
            "memory",
            not_negative=("warmup",),
            at_least_one=("width", "layers", "steps", "pairs"),
        )
        if self.width % 64:
            raise InputError(f"--memory.width {self.width} is no multiple of 64")
        if self.vocabulary < 100:
            raise InputError(f"--memory.vocabulary {self.vocabulary} is less than 100 tokens")
        if not 0 < self.lr < 1:
            raise InputError(f"--memory.lr {self.lr} is not between 0 and 1")
        if self.folder is not None and self.pretrained is not None:
            raise InputError(
                "--memory.folder is a trained memory, --memory.pretrained a model to train",
                hint="Give one of them",
            )
