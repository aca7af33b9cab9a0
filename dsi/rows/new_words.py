"""Initializes the embeddings of new words from the words that they occur with.

A network reads a new word by a row that nothing has trained. A word of a new document is about
what the document's other words are about: its row becomes their mean, as words are folded into
latent semantic analysis (Deerwester et al., JASIS 1990). Queries without a new word are read as
before.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def write_new_words(
    model: PreTrainedModel,
    old: Sequence[Sequence[int]],
    new: Sequence[Sequence[int]],
    old_vocabulary: int,
    vocabulary: int,
) -> int:
    """Writes the embeddings of new words in place.

    Each is the sum over its documents of the direction of their known words, weighted by inverse
    document frequency, with the median norm of words in one old document.

    Args:
        model: The model.
        old: Token ids of each old document.
        new: Token ids of each new document.
        old_vocabulary: Number of known words; words from it on are new.
        vocabulary: Number of words.

    Returns:
        The number of words written; words in no new document, or in none with a known word, keep
        their rows.
    """
    import torch

    if vocabulary <= old_vocabulary or not new:
        return 0
    rows = model.get_encoder().get_input_embeddings().weight.detach()
    frequency = np.bincount(
        [token for tokens in old for token in set(tokens)] or [0], minlength=vocabulary
    )
    weights = torch.from_numpy(np.log((len(old) + 1) / (frequency + 0.5)).clip(0)).to(rows)
    sums = torch.zeros(
        (vocabulary - old_vocabulary, rows.shape[1]), dtype=rows.dtype, device=rows.device
    )
    for tokens in new:
        read = [token for token in tokens if token < old_vocabulary]
        fresh = sorted({token for token in tokens if token >= old_vocabulary})
        direction = (rows[read] * weights[read, None]).sum(dim=0)
        sums[[token - old_vocabulary for token in fresh]] += direction / direction.norm().clamp_min(
            1e-8
        )
    lengths = sums.norm(dim=1)
    written = lengths > 0
    rare = np.flatnonzero(frequency[:old_vocabulary] == 1)
    usual = rows[rare if len(rare) else np.unique(list(chain.from_iterable(old)))].norm(dim=1)
    rows[old_vocabulary:vocabulary][written] = (sums / lengths[:, None].clamp_min(1e-8))[
        written
    ] * float(usual.median())
    return int(written.sum())
