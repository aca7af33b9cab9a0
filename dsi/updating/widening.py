"""A wider T5 that computes what the narrow one computed.

A model from scratch starts with one dimension a document (`lexical_width`), because a narrower
one cannot keep the whole ranking of its corpus. Documents that come later need dimensions of
their own, or they are told apart by the old documents' words only.

New dimensions come before the last two, which the spectral warm start reserves. What flows
through the network is zero in them until rows with values there are added, so that old documents
keep their scores. An RMS norm divides by the root of the width: its gains make up for that.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import PreTrainedModel, T5ForConditionalGeneration
from transformers.initialization import no_init_weights

from dsi.backbone import graft_docids

RESERVED = 2
"""Dimensions at the end of the states that the spectral warm start keeps for itself."""


def can_widen(model: PreTrainedModel) -> bool:
    """Tells whether a model has the form that `widen` knows: a T5 as wide as its attention."""
    return (
        isinstance(model, T5ForConditionalGeneration)
        and model.config.num_heads * model.config.d_kv == model.config.d_model
    )


def widen(model: PreTrainedModel, extra: int) -> PreTrainedModel:
    """Returns a wider copy of a T5 that gives the same logits.

    The first cross-attention of the decoder hands the new dimensions on as the spectral warm
    start hands on the old ones; everywhere else they are read and written with weight zero.

    Args:
        model: See `can_widen`.
        extra: Dimensions to add, a multiple of the width of an attention head.

    Raises:
        ValueError: `extra` is no such multiple.
    """
    config: Any = model.config
    per_head, before = config.d_kv, config.d_model
    if extra % per_head:
        raise ValueError(f"{extra} more dimensions are no multiple of a head's {per_head}")
    if not extra:
        return model
    after = before + extra
    wider_config = copy.deepcopy(config)
    wider_config.d_model = after
    wider_config.num_heads = after // per_head
    wider_config.layer_norm_epsilon = config.layer_norm_epsilon * before / after
    text_rows = model.get_encoder().get_input_embeddings().weight.shape[0]
    with torch.random.fork_rng(devices=[]), no_init_weights():
        wider: Any = T5ForConditionalGeneration(wider_config)
        wider = graft_docids(wider, text_rows, config.vocab_size, draw=False)
    content = before - RESERVED
    # Where each old dimension of the states is in the new ones.
    places = torch.cat([torch.arange(content), torch.arange(after - RESERVED, after)])
    old: dict[str, torch.Tensor] = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in wider.named_parameters():
            _fill(name, weight, old[name], places, (before / after) ** 0.5, per_head)
        attention = wider.decoder.block[0].layer[1].EncDecAttention
        through = torch.arange(extra)
        attention.v.weight[before + through, content + through] = 1
        attention.o.weight[content + through, before + through] = 1
    return wider.train(model.training)


def widened(
    name: str, entries: torch.Tensor, shape: tuple[int, int], per_head: int
) -> torch.Tensor:
    """Returns numbers about the entries of a linear layer's weight where `widen` puts those.

    Args:
        name: Of the layer.
        entries: [out, in], of this shape or a narrower model.
        shape: Of the layer's weight now.
        per_head: The width of an attention head.

    Returns:
        Of that shape; 0 for entries that are new, but for new heads, which repeat the first one.
    """
    if tuple(entries.shape) == shape:
        return entries
    kind = name.rpartition(".")[2]
    axis = 1 if kind.startswith("wi") else 0
    before, after = entries.shape[axis], shape[axis]
    places = torch.cat([torch.arange(before - RESERVED), torch.arange(after - RESERVED, after)])
    found = entries.new_zeros(shape)
    _fill(f"{name}.weight", found, entries, places, 1.0, per_head)
    return found


def _fill(
    name: str,
    weight: torch.Tensor,
    old: torch.Tensor,
    places: torch.Tensor,
    norm_scale: float,
    per_head: int,
) -> None:
    """Copies one old parameter into its wider place, in place."""
    before = len(places)
    if "layer_norm" in name:
        # A new dimension is amplified like an old one on average.
        weight.fill_(float(old[:-RESERVED].mean()) * norm_scale)
        weight[places] = old * norm_scale
        return
    if "relative_attention_bias" in name:
        weight.copy_(old[:, :1].expand_as(weight))
        weight[:, : old.shape[1]] = old
        return
    weight.zero_()
    kind = name.split(".")[-2]
    if kind in ("q", "k", "v"):
        # A new head looks where the first one looks; it has nothing to say yet.
        weight[:before, places] = old
        if kind != "v":
            more = (len(weight) - before) // per_head
            weight[before:, places] = old[:per_head].repeat(more, 1)
    elif kind == "o":
        weight[places[:, None], torch.arange(before)] = old
    elif kind == "wo":
        weight[places] = old
    else:  # embeddings, output rows and the first feed-forward matrix; in two blocks, as fast
        weight[:, : before - RESERVED] = old[:, :-RESERVED]
        weight[:, -RESERVED:] = old[:, -RESERVED:]
