"""Beam search without the trie: what a model generates when nothing restricts it to documents.

Hypotheses are sequences of any codes. Each step continues each of them with every code of the docid
alphabet. Of all continuations of a query, ranked by score,

* those among the best `beams` that end are complete: one that is the identifier of a document,
  one that has written END, and one that is as long as the longest identifier;
* the best `beams` of the others go on, whether or not they can still become an identifier.

The best `beams` complete ones are kept, and those that are not the identifier of a document are
dropped at the end: a query may find fewer documents than it has beams, or none. It serves as a
comparison with constrained search (`dsi.search.beam`), whose beams all lead to documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from docids.table import END, PAD
from dsi.backbones.inference import evaluating
from dsi.search.beam import (
    MAX_ELEMENTS,
    best_places,
    elements_per_query,
    readable,
    refuse_narrow,
    refuse_other_scores,
)
from dsi.search.decoders import start_decoder
from dsi.search.merging import documents_of
from dsi.search.torch_trie import TorchTrie

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def unconstrained_search(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    trie: TorchTrie,
    *,
    k: int,
    beams: int,
    document_scores: torch.Tensor | None = None,
    max_elements: int = MAX_ELEMENTS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Finds documents in the unconstrained output of a model.

    Args:
        model: As in `beam_search`, like the queries.
        input_ids: int64 [queries, length].
        attention_mask: [queries, length].
        trie: The live identifiers, used only to recognize documents.
        k: How many documents to return for each query, at most `beams`.
        beams: How many hypotheses to keep in each step, and how many complete ones in total.
        document_scores: Added to the scores of the documents found, as in `beam_search`; they do
            not affect which documents are found, since most continuations lead to none.
        max_elements: As in `beam_search`.

    Returns:
        Table rows, int64 [queries, k], best first, and scores, float32 [queries, k]: the sums of
        log-probabilities over the whole alphabet, plus the document scores. If fewer than k
        documents are found, the rest have row -1 and score -inf.

    Raises:
        InputError: k is not positive, there are fewer beams than results to return, or the document
            scores do not match the queries and documents.
    """
    refuse_narrow(k, beams)
    if document_scores is not None:
        refuse_other_scores(document_scores, len(input_ids), trie)
    input_ids, attention_mask = readable(input_ids, attention_mask)
    rows = input_ids.new_full((len(input_ids), k), -1, dtype=torch.int64)
    scores = torch.full((len(input_ids), k), -torch.inf, device=input_ids.device)
    needed = elements_per_query(model, input_ids.shape[1], trie, beams)
    # In addition, each continuation has its score, key and node.
    needed += 8 * beams * model.get_output_embeddings().weight.shape[0]
    batch = max(1, max_elements // needed)
    with evaluating(model):
        for start in range(0, len(input_ids), batch):
            part = slice(start, start + batch)
            added = None if document_scores is None else document_scores[part]
            leaves, leaf_scores = _complete(
                model, input_ids[part], attention_mask[part], trie, beams
            )
            rows[part], scores[part] = documents_of(leaves, leaf_scores, trie, k, added)
    return rows, scores


def _complete(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    trie: TorchTrie,
    beams: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the best complete hypotheses.

    Returns:
        The leaf of each, -1 for no document; int64 [queries, complete]; and its score; float32.
    """
    decoder = start_decoder(model, input_ids, attention_mask)
    codes = torch.full((len(input_ids), 1), PAD, device=input_ids.device)
    nodes, parents = torch.zeros_like(codes), torch.zeros_like(codes)
    running = torch.zeros(codes.shape, device=input_ids.device)
    leaves = torch.zeros((len(input_ids), 0), dtype=torch.int64, device=input_ids.device)
    scores = torch.zeros((len(input_ids), 0), device=input_ids.device)
    for level in range(trie.depth):
        steps = decoder.logits(decoder.step(codes, parents)).float().log_softmax(-1)
        alphabet = steps.shape[-1]
        totals = (running.unsqueeze(-1) + steps).flatten(1).nan_to_num(nan=-torch.inf)
        below = _children_by_code(trie, nodes, trie.branching[level], alphabet).flatten(1)
        is_leaf = (below >= 0) & (trie.row[below.clamp_min(0)] >= 0)
        ends = is_leaf | (torch.arange(totals.shape[1], device=totals.device) % alphabet == END)
        if level == trie.depth - 1:
            ends = torch.ones_like(ends)
        order = torch.arange(totals.shape[1], device=totals.device).expand_as(totals)
        best = best_places(totals, order, min(beams, totals.shape[1]))
        ended = totals.gather(1, best).masked_fill(~ends.gather(1, best), -torch.inf)
        at = below.gather(1, best).masked_fill(~is_leaf.gather(1, best), -1)
        leaves, scores = torch.cat([leaves, at], dim=1), torch.cat([scores, ended], dim=1)
        scores, order_of_scores = scores.sort(dim=1, descending=True, stable=True)
        leaves, scores = leaves.gather(1, order_of_scores)[:, :beams], scores[:, :beams]
        totals = totals.masked_fill(ends, -torch.inf)
        best = best_places(totals, order, min(beams, totals.shape[1]))
        running, nodes = totals.gather(1, best), below.gather(1, best)
        codes, parents = best % alphabet, best // alphabet
    return leaves, scores


def _children_by_code(
    trie: TorchTrie, nodes: torch.Tensor, branching: int, alphabet: int
) -> torch.Tensor:
    """Returns the node that each code leads to from each node.

    Args:
        trie: The trie.
        nodes: int64 [queries, hypotheses]; -1 outside the trie.
        branching: At least the maximum number of children of any of them.
        alphabet: Size of the docid alphabet.

    Returns:
        int64 [queries, hypotheses, alphabet]; -1 if there is no such edge.
    """
    children, exist = trie.children(nodes.clamp_min(0), branching)
    exist &= nodes.unsqueeze(-1) >= 0
    # PAD is in no identifier: missing children are written there, as -1.
    codes = trie.code[children].long().masked_fill(~exist, PAD)
    below = torch.full((*nodes.shape, alphabet), -1, device=nodes.device)
    return below.scatter_(-1, codes, children.masked_fill(~exist, -1))
