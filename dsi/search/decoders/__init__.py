"""Decoding of the next codes: one file for each family of decoders.

Known families have a decoding step of their own (`t5`, `bart`, `language_model`), in which the
beams of a query share its encoding or prompt, with or without an adaptor of the output layer
(`pawa`). Any other encoder-decoder runs through its `forward` (`generic`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from dsi.search.decoders.bart import BartDecoder
from dsi.search.decoders.base import Decoder
from dsi.search.decoders.generic import GenericDecoder
from dsi.search.decoders.language_model import LanguageModelDecoder
from dsi.search.decoders.pawa import PawaDecoder
from dsi.search.decoders.t5 import T5Decoder
from dsi.search.decoders.t5_folded import FoldedT5Decoder
from dsi.search.decoders.tree import TreeDecoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FAMILIES: tuple[type[TreeDecoder], ...] = (
    FoldedT5Decoder,
    T5Decoder,
    BartDecoder,
    LanguageModelDecoder,
)
"""Decoders with a step of their own, the most special ones first."""


def start_decoder(
    model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor
) -> Decoder:
    """Encodes queries and returns a decoder positioned before their first code.

    Args:
        model: An encoder-decoder, or a language model with codes (`dsi.backbones.language_model`).
        input_ids: The queries, right-padded; int64 [queries, length].
        attention_mask: 1 at tokens, 0 at padding; every query has at least one token.
    """
    for family in FAMILIES:
        if family.knows(model):
            decoder = family.start(model, input_ids, attention_mask)
            return PawaDecoder(model, decoder) if hasattr(model, "pawa") else decoder
    return GenericDecoder.start(model, input_ids, attention_mask)
