"""The warm start of identifiers in a language model's own tokens: rows are the model's own."""

from __future__ import annotations

import numpy as np
from transformers import PreTrainedModel

from dsi.backbones.language_model import tied
from dsi.rows import encodings
from dsi.rows.base import WARM_STARTS, WarmStart
from dsi.rows.corpus import Corpus
from dsi.rows.new_documents import NewDocuments


def start(model: PreTrainedModel, corpus: Corpus, seed: int) -> None:
    """Leaves the weights unchanged: `from_pretrained` has copied the rows of tokens.

    Args:
        model: A language model with codes.
        corpus: The documents and their identifiers.
        seed: Unused.
    """


def extend(model: PreTrainedModel, new: NewDocuments, seed: int) -> PreTrainedModel:
    """Initializes the codes of tokens that no identifier had before.

    Their embedding is the token's. So is their output row where the language model has one matrix
    for both (Llama 3.2, SmolLM2, small Qwens, Gemma); the output matrix of another is not part of
    an index, and their output row starts from the states of the documents, as in `encodings`.

    Args:
        model: A language model with codes.
        new: The documents.
        seed: Seed of the sample of old documents that defines the center.
    """
    import torch

    assert new.code_tokens is not None
    if not tied(model):
        model = encodings.extend(model, new, seed)
    new_codes = new.own_codes()
    new_codes = new_codes[new.code_tokens[new_codes] >= 0]
    words = model.get_encoder().get_input_embeddings().weight
    rows = words.detach()[torch.from_numpy(np.ascontiguousarray(new.code_tokens[new_codes]))]
    with torch.no_grad():
        model.get_decoder().get_input_embeddings().weight[new_codes] = rows
        if tied(model):
            model.get_output_embeddings().weight[new_codes] = rows
    return model


WARM_STARTS.register("tokens")(WarmStart(start, extend))
