"""The warm start of a pretrained text encoder: the model ranks like the encoder.

Cross-attention passes the vector of the query through unchanged, self-attention and feed-forward
layers output zero, and the output row of a code is the mean vector of the documents that have it.
So the logit of a document is the cosine of query and document, times a weight (that of the last
norm; see `dsi.backbones.backbone.from_encoder`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedModel, T5ForConditionalGeneration

from data_prep.errors import InputError
from docids.table import PAD
from dsi.backbones.document_vectors import vectors_of
from dsi.backbones.pooled_encoder import PooledEncoder, pooled
from dsi.rows.base import WARM_STARTS, WarmStart, set_rows
from dsi.rows.corpus import Corpus, code_rows
from dsi.rows.new_documents import NewDocuments

_SMALL = 0.01


def start(model: PreTrainedModel, corpus: Corpus, seed: int) -> None:
    """Writes the document vectors into the output rows and passes queries through to them.

    Args:
        model: A model from `dsi.backbones.backbone.from_encoder`.
        corpus: The documents and their identifiers; with `vectors` if they have been encoded.
        seed: Seed of the small embeddings of codes.

    Raises:
        InputError: The model has another encoder, or a vector is not finite.
    """
    encoder: Any = model.get_encoder()
    if not pooled(model) or not isinstance(model, T5ForConditionalGeneration):
        raise InputError(
            "--model.warm_start encoder starts from the vectors of a pretrained encoder",
            hint="Give --model.encoder, or use another --model.warm_start",
        )
    vectors = corpus.vectors
    if vectors is None:
        vectors = vectors_of(encoder, corpus.tokens)
    vectors = comparable(encoder, vectors)
    alphabet = model.config.vocab_size
    set_rows(model.get_output_embeddings().weight, code_rows(corpus, vectors, alphabet))
    _pass_queries(model)
    # The embedding of PAD, the start token, is zero, so that only the query counts; those of other
    # codes have a direction of their own, too small to matter before training.
    width = encoder.width
    codes = np.random.default_rng([seed, 3]).standard_normal((alphabet, width)).astype(np.float32)
    codes *= _SMALL * width**-0.5
    codes[PAD] = 0
    set_rows(model.get_decoder().get_input_embeddings().weight, codes)


def comparable(encoder: PooledEncoder, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Normalizes document vectors, independently of the other documents.

    Vectors compared by cosine have norm 1, or 0 for a document without a known token. Those
    compared by dot product keep their norms, in units of `encoder.unit`.
    """
    return (vectors / np.float32(encoder.unit)).astype(np.float32)


def _pass_queries(model: T5ForConditionalGeneration) -> None:
    """Makes cross-attention pass its input through, and zeroes the layers around it."""
    import torch

    width = model.config.d_model
    blocks: list[Any] = list(model.decoder.block)
    with torch.no_grad():
        for number, block in enumerate(blocks):
            block.layer[0].SelfAttention.o.weight.zero_()
            block.layer[-1].DenseReluDense.wo.weight.zero_()
            attention = block.layer[1].EncDecAttention
            attention.q.weight.zero_()  # all positions are equal
            attention.v.weight.copy_(torch.eye(width))
            attention.o.weight.copy_(torch.eye(width))
            if number:
                attention.o.weight.zero_()


def extend(model: PreTrainedModel, new: NewDocuments, seed: int) -> PreTrainedModel:
    """Initializes new output rows as this warm start does.

    As long as the encoder is unchanged, a document gets exactly the row that it would have had from
    the beginning; a code that only new documents have gets their mean.

    Args:
        model: A model with a pretrained text encoder.
        new: The documents.
        seed: Unused; nothing is random.
    """
    import torch

    encoder: Any = model.get_encoder()
    vectors = vectors_of(encoder, [new.corpus.tokens[row] for row in new.rows.tolist()])
    output = model.get_output_embeddings().weight
    codes = new.own_codes()
    rows = new.vectors_of_codes(comparable(encoder, vectors), len(output))[codes]
    with torch.no_grad():
        output[codes] = torch.from_numpy(rows).to(output)
    return model


WARM_STARTS.register("encoder")(WarmStart(start, extend))
