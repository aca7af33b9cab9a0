"""Exact prefix-constrained beam search over the trie, without a loop over beams or queries.

A beam is a node of the trie. In each step every beam is replaced by the children of its node;
of all continuations of a query, ranked by score,

* the documents (leaves) among the best `beams` are found, and no longer occupy a beam;
* the best `beams` of the others go on.

For identifiers that end in END these are the finished and running hypotheses of transformers'
`generate(num_beams=beams, length_penalty=0.0, early_stopping="never")` under
`prefix_allowed_tokens_fn`: a beam has one END at most, so `generate`'s 2 * beams candidates hold
`beams` that go on. The exception is `generate`'s filling: where there are fewer documents than
beams it returns repeated or invalid sequences, with scores of -1e9 and below; here results are
missing instead. With as many beams as documents nothing is ever cut, and the ranking is exact.

Continuations of equal score are ordered by the lowest table row they lead to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from data_prep.errors import InputError
from docids.table import PAD
from dsi.search.torch_trie import TorchTrie

MAX_ELEMENTS = 2**27
"""About how many numbers a search holds at once beside the model, unless told otherwise."""


def beam_search(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    trie: TorchTrie,
    *,
    k: int,
    beams: int,
    max_elements: int = MAX_ELEMENTS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Finds the documents whose identifiers a model gives the highest probability.

    The score of a document is the sum of the log-probabilities of its codes, over the whole
    docid alphabet, computed in float32 from the model's logits. A document that the model gives
    probability 0, or no number, is not found. A model in training mode is set to evaluation mode
    for the search and back.

    Args:
        model: An encoder-decoder whose decoder vocabulary is the docid alphabet and which starts
            decoding from PAD.
        input_ids: The queries, padded at the end; int64 [queries, length]. A query of length 0,
            or all padding, is read as one padding token.
        attention_mask: 1 at tokens, 0 at padding; [queries, length].
        trie: The live identifiers, on the model's device.
        k: How many documents to return for each query.
        beams: How many continuations to keep in each step, at least `k`.
        max_elements: Queries are searched in batches, so that decoder cache, logits and
            candidates together have about this many elements at most (one query excepted).

    Returns:
        Table rows, int64 [queries, k], best first, and scores, float32 [queries, k]. Where fewer
        than k documents are found, the rest are row -1, score -inf.

    Raises:
        InputError: k is not positive, or there are fewer beams than results to return.
    """
    if k < 1:
        raise InputError(f"cannot return {k} documents", mend="Ask for at least 1")
    if beams < k:
        raise InputError(
            f"{beams} beams cannot find {k} documents", mend=f"Search with at least {k} beams"
        )
    if input_ids.shape[1] == 0:
        input_ids = input_ids.new_full((len(input_ids), 1), PAD)
        attention_mask = attention_mask.new_zeros((len(attention_mask), 1))
    # Attention over nothing is not a number in some implementations: an empty query attends to
    # its first padding token.
    attention_mask = attention_mask.clone()
    attention_mask[:, 0] = torch.where(attention_mask.any(dim=1), attention_mask[:, 0], 1)

    beams = min(beams, trie.documents)
    results = min(k, trie.documents)
    rows = input_ids.new_full((len(input_ids), k), -1, dtype=torch.int64)
    scores = torch.full((len(input_ids), k), -torch.inf, device=input_ids.device)
    needed = _elements_per_query(model, input_ids.shape[1], trie, beams)
    batch = max(1, max_elements // needed)
    with torch.inference_mode(), _evaluating(model):
        for start in range(0, len(input_ids), batch):
            part = slice(start, start + batch)
            found = _search(model, input_ids[part], attention_mask[part], trie, results, beams)
            rows[part, :results] = found.rows
            scores[part, :results] = found.scores
    return rows, scores


@dataclass
class _Found:
    """The documents found so far, best first; rows int64 and scores float32 [queries, results]."""

    rows: torch.Tensor
    scores: torch.Tensor

    def add(self, rows: torch.Tensor, scores: torch.Tensor) -> None:
        """Keeps the best of these and others; where a score is -inf there is no document."""
        rows = torch.cat([self.rows, rows], dim=1)
        scores = torch.cat([self.scores, scores], dim=1)
        best = _best(scores, rows, self.rows.shape[1])
        self.scores = scores.gather(1, best)
        self.rows = rows.gather(1, best).masked_fill(self.scores == -torch.inf, -1)

    def beat(self, running: torch.Tensor) -> bool:
        """Whether no continuation of beams with these scores [queries, beams] can still enter."""
        best = running[:, 0]
        return bool(((self.scores[:, -1] > best) | (best == -torch.inf)).all())


def _search(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    trie: TorchTrie,
    results: int,
    beams: int,
) -> _Found:
    """Searches one batch of queries."""
    queries = len(input_ids)
    device = input_ids.device
    encoded = model.get_encoder()(input_ids=input_ids, attention_mask=attention_mask)
    hidden = encoded.last_hidden_state
    first_of_query = torch.arange(queries, device=device).unsqueeze(1)
    found = _Found(
        torch.full((queries, results), -1, device=device),
        torch.full((queries, results), -torch.inf, device=device),
    )
    scores = torch.zeros((queries, 1), device=device)
    nodes = torch.zeros((queries, 1), dtype=torch.int64, device=device)
    codes = torch.full((queries, 1), PAD, device=device)
    cache: Any = None
    for level, branching in enumerate(trie.branching):
        output = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            attention_mask=attention_mask,
            decoder_input_ids=codes,
            past_key_values=cache,
            use_cache=True,
            return_dict=True,
        )
        cache = output.past_key_values
        children, totals = _continuations(trie, level, nodes, scores, output.logits[:, -1])
        order = trie.lowest_row[children].expand_as(totals)
        is_leaf = (trie.row[children] >= 0).expand_as(totals)
        if trie.leaves[level + 1]:
            best = _best(totals, order, min(beams, totals.shape[1]))
            leaf_scores = totals.gather(1, best).masked_fill(~is_leaf.gather(1, best), -torch.inf)
            found.add(order.gather(1, best).long(), leaf_scores)
        width = min(beams, trie.inner[level + 1])
        if not width:
            break
        if trie.leaves[level + 1]:
            totals = totals.masked_fill(is_leaf, -torch.inf)
        best = _best(totals, order, width)
        scores = totals.gather(1, best)
        if trie.leaves[level + 1] and found.beat(scores):
            break
        before = nodes.shape[1]
        nodes = children.expand_as(totals).gather(1, best)
        codes = trie.code[nodes].long().view(-1, 1)
        parents = (first_of_query * before + best // branching).view(-1)
        cache.self_attention_cache.reorder_cache(parents)
        # All beams of a query look at the same encoded query, so that half of the cache only
        # changes when their number does.
        if width != before:
            cache.cross_attention_cache.reorder_cache(parents)
            hidden = hidden.index_select(0, parents)
            attention_mask = attention_mask.index_select(0, parents)
    return found


def _continuations(
    trie: TorchTrie,
    level: int,
    nodes: torch.Tensor,
    scores: torch.Tensor,
    logits: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lists the children of every beam's node with their scores.

    Args:
        trie: The trie.
        level: The level of the beams' nodes.
        nodes: int64 [queries, beams].
        scores: float32 [queries, beams].
        logits: Of the next code, in any precision; [queries * beams, alphabet].

    Returns:
        Nodes, int64, and scores, float32, both [queries, beams * branching], the nodes of the
        first level [1, branching]; the score is -inf where there is no child or no probability.
    """
    branching = trie.branching[level]
    logits = logits.float()
    base = scores - logits.logsumexp(dim=-1).view_as(scores)
    if level == 0:
        # All queries stand at the root: one list of children serves them all.
        children = torch.arange(1, branching + 1, device=nodes.device).unsqueeze(0)
        totals = base + logits.index_select(1, trie.code[1 : branching + 1])
    else:
        padded, exist = trie.children(nodes, branching)
        gathered = logits.view(*nodes.shape, -1).gather(2, trie.code[padded].long())
        totals = (base.unsqueeze(-1) + gathered).masked_fill_(~exist, -torch.inf)
        children, totals = padded.view(len(nodes), -1), totals.view(len(nodes), -1)
    return children, totals.masked_fill(totals.isnan(), -torch.inf)


def _best(scores: torch.Tensor, order: torch.Tensor, count: int) -> torch.Tensor:
    """Returns the places of the highest scores in each line, ties by the lower `order`.

    `topk` leaves open which of equal scores it returns. One integer holds both keys instead: the
    bits of a float32 read as an integer sort like the number once those of negative numbers are
    flipped, and the lower half has room for an int32.

    Args:
        scores: float32 [lines, candidates].
        order: Integers in [-1, 2^31) [lines, candidates].
        count: How many to return, at most `candidates`.

    Returns:
        int64 [lines, count], best first.
    """
    bits = scores.contiguous().view(torch.int32)
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    keys = (bits.long() << 32) - order
    return keys.topk(count, dim=1).indices


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Switches dropout off, and back on afterwards where it was on."""
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def _elements_per_query(model: PreTrainedModel, length: int, trie: TorchTrie, beams: int) -> int:
    """Estimates how many numbers the search of one query holds at its widest."""
    config = model.config
    layers = getattr(config, "num_decoder_layers", None) or getattr(config, "decoder_layers", None)
    cache = 2 * (layers or config.num_hidden_layers) * config.hidden_size * (length + trie.depth)
    alphabet = int(trie.code.max()) + 1
    widest = 1
    for branching, inner in zip(trie.branching, trie.inner, strict=False):
        width = min(beams, inner)
        # Logits and their exponentials; and nodes, codes, keys and scores of the candidates.
        widest = max(widest, width * (cache + 2 * alphabet + 8 * branching))
    return widest
