"""Growing a model without a warm start: new rows are means of the rows of like documents."""

from __future__ import annotations

import numpy as np
from transformers import PreTrainedModel

from dsi.updating.growth.base import GROWTHS, Newcomers
from dsi.warm_starts.base import Corpus
from dsi.warm_starts.spectral import term_counts, term_weights

NEAREST = 5
"""How many old documents a new one starts from the mean of."""


@GROWTHS.register("none")
def neighbours(model: PreTrainedModel, newcomers: Newcomers, seed: int) -> PreTrainedModel:
    """Starts a new document's row from the mean of the last codes of the most alike old ones.

    Documents are alike by the cosine of their weights (1 + log tf) * idf.

    Args:
        model: Any encoder-decoder of the toolkit.
        newcomers: The documents.
        seed: Unused.
    """
    import torch

    table, old = newcomers.table, newcomers.old_rows
    if not len(old):
        return model
    live = table.live
    vocabulary = model.get_encoder().get_input_embeddings().weight.shape[0]
    corpus = Corpus([newcomers.tokens[row] for row in live.tolist()], table)
    matrix = term_weights(term_counts(corpus, vocabulary))
    alike = (
        matrix[np.searchsorted(live, newcomers.rows)] @ matrix[np.searchsorted(live, old)].T
    ).toarray()
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, :NEAREST]
    output = model.get_output_embeddings().weight
    lasts = table.last_codes(old)
    rows = output.detach().float().cpu().numpy()
    vectors = rows[lasts[nearest]].mean(axis=1)
    own = newcomers.own_codes()
    of_codes = newcomers.vectors_of_codes(vectors.astype(np.float32), len(output))[own]
    with torch.no_grad():
        output[own] = torch.from_numpy(of_codes).to(output)
    return model
