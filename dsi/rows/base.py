"""The interface for initializing docid rows, in the first training and in updates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from data_prep.registry import Registry
from dsi.rows.corpus import Corpus
from dsi.rows.new_documents import NewDocuments

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Start: TypeAlias = "Callable[[PreTrainedModel, Corpus, int], None]"
"""Initializes a model's weights in place so that it ranks well before training: model, corpus,
seed. Raises InputError where the model is of a kind that cannot be prepared."""
Extend: TypeAlias = "Callable[[PreTrainedModel, NewDocuments, int], PreTrainedModel]"
"""Returns the model with the rows of new documents written: model, new documents, seed."""


@dataclass(frozen=True)
class WarmStart:
    """One way to initialize rows from documents.

    Attributes:
        start: Called once, before the first step of the first training.
        extend: Called before the first step of each update; the rows of new documents match those
            that `start` wrote, whether or not these have been trained.
    """

    start: Start
    extend: Extend


WARM_STARTS: Registry[WarmStart] = Registry("warm start")
"""By the name that `--model.warm_start` has for it."""


def random_rotation(width: int, seed: int) -> npt.NDArray[np.float64]:
    """Returns a random orthogonal matrix, which spreads few factors over all dimensions."""
    return np.linalg.qr(np.random.default_rng([seed, 1]).standard_normal((width, width)))[0]


def set_rows(weight: torch.Tensor, rows: npt.NDArray[np.float32]) -> None:
    """Copies an array into the weights of an embedding or output layer, outside autograd."""
    import torch

    with torch.no_grad():
        weight.copy_(torch.from_numpy(np.ascontiguousarray(rows)).to(weight))
