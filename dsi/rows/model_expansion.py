"""Makes room in a model for documents that come later, and writes their rows."""

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
    """Makes room for new documents in a model and writes their rows.

    The rows of old codes and old tokens come out as they went in, but for what the warm start of
    that name says.

    Args:
        model: The model of the version before; changed in place.
        new: The documents.
        start: The warm start of the first version.
        text_vocabulary: Tokens of the text encoder now.
        seed: Of new random weights.
    """
    before = model.get_output_embeddings().weight.shape[0]
    add_rows(model, text_vocabulary, new.table.alphabet_size, seed)
    if not len(new.rows):
        return model
    start_new_codes(model, new, before, seed)
    return WARM_STARTS[start].extend(model, new, seed)


def add_rows(model: PreTrainedModel, text_vocabulary: int, alphabet_size: int, seed: int) -> None:
    """Lengthens embeddings and output layer in place; new rows are small and random.

    Args:
        model: The model.
        text_vocabulary: Tokens that it is to read.
        alphabet_size: Codes that it is to write.
        seed: Of the new rows.
    """
    import torch

    from dsi.backbone import set_text_rows

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
        typical = float(old.norm(dim=1).mean()) * old.shape[1] ** -0.5
        drawn = torch.randn((more, old.shape[1]), generator=generator).to(old) * (0.1 * typical)
        layer.weight = torch.nn.Parameter(torch.cat([old, drawn]))
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


def start_new_codes(model: PreTrainedModel, new: NewDocuments, before: int, seed: int) -> None:
    """Lets new codes enter the decoder as old ones do on average, with a little of their own.

    Args:
        model: The model, with rows for all codes; changed in place.
        new: Which documents are new.
        before: How many codes there were.
        seed: Of whatever is drawn at random.
    """
    import torch

    embedding: torch.Tensor = model.get_decoder().get_input_embeddings().weight
    if len(embedding) <= before:
        return
    with torch.no_grad():
        embedding[before:] += embedding[FIRST_CODE:before].mean(dim=0)
