"""No warm start: weights as they were drawn or loaded, but for rows that codebooks give."""

from __future__ import annotations

import numpy as np
from transformers import PreTrainedModel

from docids.table import FIRST_CODE
from dsi.warm_starts.base import WARM_STARTS, Corpus, random_rotation, set_rows


@WARM_STARTS.register("none")
def none(model: PreTrainedModel, corpus: Corpus, seed: int) -> None:
    """Leaves the weights alone, or starts the rows of codes from their codewords.

    The codewords are rotated into the width of the model at random, which keeps their angles, and
    scaled to the mean length of the rows that they replace. Where they have more dimensions than
    the model, those in which they differ most are kept. So RIPOR (Zeng et al., WWW 2024, section
    3.2) starts its tables of codes, whose model is as wide as the vectors that were quantised.

    Args:
        model: Any encoder-decoder after `graft_docids`.
        corpus: The documents and their identifiers.
        seed: Of the rotation.
    """
    if corpus.codebooks is None:
        return
    words = corpus.codebooks.words
    for layer in (model.get_output_embeddings(), model.get_decoder().get_input_embeddings()):
        rows = layer.weight.detach().float().cpu().numpy().copy()
        width = rows.shape[1]
        if words.shape[1] > width:
            words = words @ np.linalg.svd(words, full_matrices=False)[2][:width].T
        spread = words @ random_rotation(width, seed)[: words.shape[1]]
        before = rows[FIRST_CODE : FIRST_CODE + len(words)]
        typical = np.linalg.norm(before, axis=1).mean() / np.linalg.norm(spread, axis=1).mean()
        rows[FIRST_CODE : FIRST_CODE + len(words)] = spread * typical
        set_rows(layer.weight, rows)
