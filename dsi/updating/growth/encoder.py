"""Growing a model behind a pretrained encoder: new rows are that encoder's vectors of documents."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from dsi.document_vectors import vectors_of
from dsi.updating.growth.base import GROWTHS, Newcomers
from dsi.warm_starts.encoder import comparable


@GROWTHS.register("encoder")
def encoder(model: PreTrainedModel, newcomers: Newcomers, seed: int) -> PreTrainedModel:
    """Starts new output rows as the warm start of that name does.

    While the encoder is what it was, a document gets the very row that it would have got if it had
    been there from the beginning; a code that only new documents have gets their mean.

    Args:
        model: One with a pretrained encoder of texts.
        newcomers: The documents.
        seed: Unused; nothing is drawn.
    """
    import torch

    own: Any = model.get_encoder()
    vectors = vectors_of(own, [newcomers.tokens[row] for row in newcomers.rows.tolist()])
    output = model.get_output_embeddings().weight
    codes = newcomers.own_codes()
    rows = newcomers.vectors_of_codes(comparable(own, vectors), len(output))[codes]
    with torch.no_grad():
        output[codes] = torch.from_numpy(rows).to(output)
    return model
