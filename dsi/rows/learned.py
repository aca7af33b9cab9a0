"""The start of learned identifiers: the model that learned the codes, with their codebooks."""

from __future__ import annotations

from transformers import PreTrainedModel

from data_prep.errors import InputError
from docids.table import FIRST_CODE, PAD
from dsi.rows.base import WARM_STARTS, WarmStart, set_rows
from dsi.rows.corpus import Corpus
from dsi.rows.encodings import extend


def start(model: PreTrainedModel, corpus: Corpus, seed: int) -> None:
    """Writes the codebooks of every position into the rows of their codes.

    The decoder then reads the same input as when the codes were trained, and the logits of a
    position are those of that training: cosines divided by its temperature, exact for a state of
    mean norm. So the model that learned the codes also retrieves (Sun et al., GenRet, NeurIPS 2023,
    section 3). A number after the codes was not trained: its row starts at 0.

    Args:
        model: The encoder-decoder that was trained with the codes, after `set_docid_alphabet`.
        corpus: The documents, their identifiers, and the vectors of their codes in the model.
        seed: Unused; nothing is random.

    Raises:
        InputError: There are no such codes, or they do not match the model or the identifiers.
    """
    if corpus.codes is None:
        raise InputError(
            "these codes were not trained with a model",
            where="--model.warm_start learned",
            hint="Assign identifiers with --kind learned and --learned.model",
        )
    outputs = corpus.codes.outputs()
    levels, size, width = outputs.shape
    output = model.get_output_embeddings().weight
    corpus.codes.refuse_other_width(output.shape[1])
    first_number = FIRST_CODE + levels * size
    if len(output) < first_number:
        raise InputError(
            f"the codebooks have {levels} x {size} codes, but identifiers have {len(output)}",
            hint="Assign the identifiers again",
        )
    rows = output.detach().float().cpu().numpy().copy()
    rows[FIRST_CODE:first_number] = outputs.reshape(-1, width)
    rows[first_number:] = 0
    set_rows(output, rows)
    embedding = model.get_decoder().get_input_embeddings()
    # BART scales its embeddings, and the codes were trained without that.
    scale = float(getattr(embedding, "embed_scale", 1.0))
    read = embedding.weight.detach().float().cpu().numpy().copy()
    read[PAD] = corpus.codes.start / scale
    read[FIRST_CODE:first_number] = corpus.codes.codebook.reshape(-1, width) / scale
    set_rows(embedding.weight, read)


WARM_STARTS.register("learned")(WarmStart(start, extend))
