"""Expands a model for documents added later, and initializes their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docids.table import FIRST_CODE
from dsi.rows import WARM_STARTS
from dsi.rows.new_documents import NewDocuments

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def expand(
    model: PreTrainedModel, new: NewDocuments, *, start: str, text_vocabulary: int, seed: int
) -> PreTrainedModel:
    """Expands a model for new documents and initializes their rows.

    The rows of old codes and old tokens do not change, except as the warm start specifies.

    Args:
        model: The model of the previous version; changed in place.
        new: The documents.
        start: The warm start of the first version.
        text_vocabulary: Number of tokens of the text encoder now.
        seed: Seed of new random weights.
    """
    rows = model.get_output_embeddings().weight.shape[0]
    add_rows(model, text_vocabulary, new.table.alphabet_size, seed)
    if not len(new.rows):
        return model
    start_new_codes(model, new, rows, seed)
    return WARM_STARTS[start].extend(model, new, seed)


def add_rows(model: PreTrainedModel, text_vocabulary: int, alphabet_size: int, seed: int) -> None:
    """Extends embeddings and output layer in place; new rows are small and random.

    Args:
        model: The model.
        text_vocabulary: Number of tokens to read.
        alphabet_size: Number of codes to write.
        seed: Seed of the new rows.
    """
    import torch

    from dsi.backbones.backbone import set_text_rows

    generator = torch.Generator().manual_seed(seed)
    layers: list[tuple[Any, int]] = [
        (model.get_encoder().get_input_embeddings(), text_vocabulary),
        (model.get_decoder().get_input_embeddings(), alphabet_size),
        (model.get_output_embeddings(), alphabet_size),
    ]
    for layer, rows in layers:
        old = layer.weight.detach()
        more = rows - len(old)
        if more <= 0:
            continue
        layer.weight = torch.nn.Parameter(torch.cat([old, _small_rows(old, more, generator)]))
        for name in ("num_embeddings", "out_features"):
            if hasattr(layer, name):
                setattr(layer, name, rows)
    if hasattr(model, "final_logits_bias"):
        bias: Any = model.final_logits_bias
        longer = bias.new_zeros((1, max(alphabet_size, bias.shape[1])))
        longer[:, : bias.shape[1]] = bias
        model.register_buffer("final_logits_bias", longer)
    if hasattr(model, "pawa"):
        adaptor: Any = model.pawa
        adaptor.lengthen(alphabet_size)
    model.config.vocab_size = max(alphabet_size, model.config.vocab_size)
    set_text_rows(model, max(text_vocabulary, len(layers[0][0].weight)))


def start_new_codes(model: PreTrainedModel, new: NewDocuments, rows: int, seed: int) -> None:
    """Initializes the decoder embeddings of new codes to the mean of the old ones, plus noise.

    Args:
        model: The model, with rows for all codes; changed in place.
        new: The new documents.
        rows: Previous number of rows; new codes below it come from a reserve.
        seed: Seed of the noise.
    """
    import torch

    embedding: torch.Tensor = model.get_decoder().get_input_embeddings().weight
    before, after = new.known_codes, new.table.next_code
    if after <= before:
        return
    with torch.no_grad():
        reserved = embedding[before : min(rows, after)]
        generator = torch.Generator().manual_seed(seed)
        reserved.copy_(_small_rows(embedding[FIRST_CODE:before], len(reserved), generator))
        embedding[before:after] += embedding[FIRST_CODE:before].mean(dim=0)


def _small_rows(like: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Returns random rows of a tenth of the mean norm of others; [count, width]."""
    import torch

    typical = float(like.norm(dim=1).mean()) * like.shape[1] ** -0.5
    noise = torch.randn((count, like.shape[1]), generator=generator)
    return noise.to(like) * (0.1 * typical)
