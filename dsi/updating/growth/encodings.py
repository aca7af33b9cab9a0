"""Growing a pretrained model: new rows from the model's encodings of the new documents."""

from __future__ import annotations

import numpy as np
from transformers import PreTrainedModel

from dsi.updating.growth.base import GROWTHS, Newcomers
from dsi.warm_starts.encodings import decoder_states

_SAMPLE = 200
"""Old documents whose encodings tell what all encodings have in common."""


@GROWTHS.register("learned")
@GROWTHS.register("encodings")
def encodings(model: PreTrainedModel, newcomers: Newcomers, seed: int) -> PreTrainedModel:
    """Starts new output rows from what the decoder's first step makes of the new documents.

    As in the warm start of that name: centred, and as long as the rows that are there.

    Args:
        model: Any encoder-decoder of the toolkit.
        newcomers: The documents.
        seed: Of the choice of old documents that the centre is taken from.
    """
    import torch

    old = newcomers.old_rows
    if len(old) > _SAMPLE:
        old = np.sort(np.random.default_rng([seed, 12]).choice(old, _SAMPLE, replace=False))
    read = [*newcomers.rows.tolist(), *old.tolist()]
    vectors = decoder_states(model, [newcomers.tokens[row] for row in read])
    vectors = vectors[: len(newcomers.rows)] - vectors.mean(axis=0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    output = model.get_output_embeddings().weight
    own = newcomers.own_codes()
    of_codes = newcomers.vectors_of_codes(vectors, len(output))[own]
    kept = np.setdiff1d(np.unique(np.asarray(newcomers.table.codes)), own)
    typical = float(output.detach()[torch.from_numpy(kept).long()].norm(dim=1).mean())
    with torch.no_grad():
        output[own] = torch.from_numpy(of_codes * typical).to(output)
    return model
