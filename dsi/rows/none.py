"""No warm start: weights stay as initialized or loaded, except rows with codebooks."""

from __future__ import annotations

import numpy as np
from transformers import PreTrainedModel

from docids.table import FIRST_CODE
from dsi.rows.base import WARM_STARTS, WarmStart, random_rotation, set_rows
from dsi.rows.corpus import Corpus
from dsi.rows.new_documents import NewDocuments
from dsi.rows.spectral import term_counts, term_weights

NEAREST = 5
"""Number of nearest old documents whose mean initializes the row of a new one."""


def start(model: PreTrainedModel, corpus: Corpus, seed: int) -> None:
    """Leaves the weights unchanged, or initializes the rows of codes from their codewords.

    A random rotation maps the codewords to the width of the model, preserving angles, and they are
    scaled to the mean norm of the rows that they replace. If they have more dimensions than the
    model, those with the highest variance are kept. RIPOR (Zeng et al., WWW 2024, section 3.2)
    initializes its code embeddings this way; its model is as wide as the quantized vectors.

    Args:
        model: Any encoder-decoder after `set_docid_alphabet`.
        corpus: The documents and their identifiers.
        seed: Seed of the rotation.
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


def extend(model: PreTrainedModel, new: NewDocuments, seed: int) -> PreTrainedModel:
    """Initializes a new document's row to the mean of the last codes of the most similar old ones.

    Similarity is the cosine of their term weights (1 + log tf) * idf.

    Args:
        model: Any encoder-decoder of the toolkit.
        new: The documents.
        seed: Unused.
    """
    import torch

    table, old = new.table, new.old_rows
    if not len(old):
        return model
    live = table.live
    vocabulary = model.get_encoder().get_input_embeddings().weight.shape[0]
    corpus = Corpus([new.corpus.tokens[row] for row in live.tolist()], table)
    matrix = term_weights(term_counts(corpus, vocabulary))
    alike = (
        matrix[np.searchsorted(live, new.rows)] @ matrix[np.searchsorted(live, old)].T
    ).toarray()
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, :NEAREST]
    output = model.get_output_embeddings().weight
    lasts = table.last_codes(old)
    rows = output.detach().float().cpu().numpy()
    vectors = rows[lasts[nearest]].mean(axis=1)
    new_codes = new.own_codes()
    of_codes = new.vectors_of_codes(vectors.astype(np.float32), len(output))[new_codes]
    with torch.no_grad():
        output[new_codes] = torch.from_numpy(of_codes).to(output)
    return model


WARM_STARTS.register("none")(WarmStart(start, extend))
