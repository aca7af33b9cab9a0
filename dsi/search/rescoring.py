"""Scores found documents again, with a model of another precision.

A search in int8 keeps the beams that its rounded scores order. Of the documents that it finds, the
exact scores cost one more pass over their identifiers, which are known by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from docids.table import PAD
from dsi.backbones.inference import evaluating
from dsi.search.beam import readable
from dsi.search.decoders import start_decoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dsi.search.torch_trie import TorchTrie


def rescored(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    trie: TorchTrie,
    rows: torch.Tensor,
    identifiers: torch.Tensor,
    *,
    score: str,
    document_scores: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns documents in the order of their scores by a model.

    Args:
        model: As in `dsi.search.beam.beam_search`, like the next three.
        input_ids: int64 [queries, length].
        attention_mask: [queries, length].
        trie: The identifiers that were searched, one for each document.
        rows: Table rows of the documents, -1 for none; int64 [queries, k].
        identifiers: Their codes, -1 behind the end; int64 [queries, k, longest].
        score: "model" or "constrained".
        document_scores: As in `beam_search`; float32 [queries, table rows].

    Returns:
        Rows and scores in the form of `beam_search`.
    """
    input_ids, attention_mask = readable(input_ids, attention_mask)
    total = torch.zeros(rows.shape, device=rows.device)
    with evaluating(model):
        decoder = start_decoder(model, input_ids, attention_mask)
        codes = torch.full((len(rows), 1), PAD, device=rows.device)
        nodes = parents = torch.zeros_like(codes)
        for level in range(identifiers.shape[2]):
            active = identifiers[:, :, level] >= 0
            if not bool(active.any()):
                break
            states = decoder.step(codes, parents)
            children, child_codes, exist = trie.continuations(nodes, trie.branching[level])
            if score == "constrained":
                logits = decoder.logits_at(states, child_codes).float()
                adds = logits.masked_fill(~exist, -torch.inf).log_softmax(-1)
            else:
                adds = decoder.log_probabilities(states, child_codes)
            if not level:
                one = torch.zeros_like(rows).unsqueeze(-1).expand(-1, -1, child_codes.shape[2])
                child_codes, exist, adds, children = (
                    each.gather(1, one) for each in (child_codes, exist, adds, children)
                )
            target_codes = identifiers[:, :, level]
            place = (
                ((child_codes == target_codes.unsqueeze(-1)) & exist)
                .long()
                .argmax(-1, keepdim=True)
            )
            total += adds.gather(-1, place).squeeze(-1).masked_fill(~active, 0.0)
            # What has ended goes along any way, and nothing of it counts.
            nodes = children.gather(-1, place).squeeze(-1).clamp_min(0)
            nodes = nodes.masked_fill(~active, 0)
            codes = target_codes.clamp_min(PAD)
            parents = torch.arange(rows.shape[1], device=rows.device).expand_as(rows)
            if not level:
                parents = torch.zeros_like(parents)
        if document_scores is not None:
            total += document_scores.gather(1, rows.clamp_min(0))
        total = total.masked_fill(rows < 0, -torch.inf)
        # By score, then by row, as in the search.
        by_row = rows.argsort(dim=1, stable=True)
        order = total.gather(1, by_row).argsort(dim=1, descending=True, stable=True)
        order = by_row.gather(1, order)
    return rows.gather(1, order), total.gather(1, order)
