"""Exact prefix-constrained beam search over the trie, without a loop over beams or queries.

A beam is a node of the trie. Each step replaces every beam by the children of its node. Of all
continuations of a query, ranked by score,

* the identifiers (leaves) among the best `beams` are found, and no longer occupy a beam;
* the best `beams` of the others go on.

If every identifier belongs to one document, the best `k` found are the result. If documents share
identifiers or have several, the best `beams` identifiers are kept instead, and `dsi.search.merging`
turns them into documents, each returned once and with one score.

Documents may have a score of their own in addition to that of their identifier (`document_scores`).
A continuation then ranks by its log-probability plus the highest score of the documents it can
still lead to (`dsi.search.lookahead`). This is an upper bound for every document below it, so that
ordering and early stopping are as exact with these scores as without.

For identifiers that end in END these are the finished and running hypotheses of transformers'
`generate(num_beams=beams, length_penalty=0.0, early_stopping="never")` under
`prefix_allowed_tokens_fn`: a beam has at most one END, so `generate`'s 2 * beams candidates include
`beams` that go on. The exception is padding: with fewer documents than beams, `generate` returns
repeated or invalid sequences with scores of -1e9 and below; here results are missing instead. With
as many beams as documents nothing is ever pruned, and the ranking is exact.

Ties are broken by the lowest table row that a continuation leads to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch

from data_prep.errors import InputError
from docids.table import PAD
from dsi.backbones.inference import evaluating
from dsi.backbones.network_config import decoder_config
from dsi.search.decoders import start_decoder
from dsi.search.decoders.base import Decoder
from dsi.search.lookahead import LookAhead
from dsi.search.merging import documents_of
from dsi.search.torch_trie import TorchTrie

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_ELEMENTS = 2**27
"""Default bound on the numbers that a search holds in memory, besides the model."""
SCORES = ("model", "constrained")
"""Kinds of document scores."""
TAIL_ROWS = 512
"""Approximate number of codes of unbranched identifier endings per pass: their states fit in a
processor's cache."""
WIDE = 8192
"""Number of candidates from which the highest are selected first and sorted afterwards."""
FEW_ROWS = 64
"""Number of rows whose product takes about as long as reading its weights."""
LOGIT_ROWS = 256
"""Number of rows whose logits are in memory at once: few enough to fit in a processor's cache."""


def beam_search(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    trie: TorchTrie,
    *,
    k: int,
    beams: int,
    score: str = "model",
    first_beams: int | None = None,
    first_levels: int = 1,
    starts: int = 1,
    document_scores: torch.Tensor | None = None,
    max_elements: int = MAX_ELEMENTS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Finds the documents whose identifiers a model gives the highest probability.

    The score of an identifier is the sum of the log-probabilities of its codes, computed in float32
    from the model's logits, and the score of a document is that of its identifier; with several
    identifiers, the logarithm of the sum of the probabilities of those found. `document_scores` are
    added to that. A document with probability 0 or NaN is not found. A model in training mode is
    switched to evaluation mode during the search.

    Args:
        model: An encoder-decoder whose decoder vocabulary is the docid alphabet and which starts
            decoding from PAD.
        input_ids: The queries, right-padded; int64 [queries, length]. An empty query, or one that
            is all padding, is read as one padding token.
        attention_mask: 1 at tokens, 0 at padding; [queries, length].
        trie: The live identifiers, on the model's device.
        k: How many documents to return for each query.
        beams: How many continuations to keep in each step, at least `k`.
        score: The terms of a document's score: "model", the log-probabilities of its codes over the
            whole docid alphabet; "constrained", those over the codes allowed there, so that a code
            without an alternative costs nothing.
        first_beams: How many continuations to keep on the first levels; default `beams`.
        first_levels: The number of first levels.
        starts: The minimum number of distinct first codes among the kept continuations, if there
            are that many and all can be kept: none of them gets more than its share of beams as
            long as others can fill it.
        document_scores: Finite scores to add to those of the documents; float32 [queries, table
            rows], on the model's device. A continuation counts the highest one of the documents in
            the trie that it can lead to.
        max_elements: Limit on the elements of decoder cache, logits, candidates and look-ahead
            together; queries are searched in batches of about this size, at least one query each.

    Returns:
        Table rows, int64 [queries, k], best first, and scores, float32 [queries, k]. If fewer than
        k documents are found, the rest have row -1 and score -inf.

    Raises:
        InputError: k is not positive, there are fewer beams than results to return, or the document
            scores do not match the queries and documents.
    """
    refuse_narrow(k, beams)
    if score not in SCORES:
        raise InputError(f"unknown score {score!r}", hint=f"Choose from: {', '.join(SCORES)}")
    if document_scores is not None:
        refuse_other_scores(document_scores, len(input_ids), trie)
    input_ids, attention_mask = readable(input_ids, attention_mask)
    widths = [min(beams, trie.identifiers)] * trie.depth
    if first_beams is not None:
        first_levels = min(first_levels, trie.depth)
        widths[:first_levels] = [min(first_beams, trie.identifiers)] * first_levels
    beams = min(beams, trie.identifiers)
    results = min(k, beams) if trie.one_to_one else beams
    rows = input_ids.new_full((len(input_ids), k), -1, dtype=torch.int64)
    scores = torch.full((len(input_ids), k), -torch.inf, device=input_ids.device)
    needed = elements_per_query(model, input_ids.shape[1], trie, max(widths))
    if document_scores is not None:
        needed += LookAhead.elements_per_query(trie, document_scores.shape[1])
    batch = max(1, max_elements // needed)
    with evaluating(model):
        for start in range(0, len(input_ids), batch):
            part = slice(start, start + batch)
            decoder = start_decoder(model, input_ids[part], attention_mask[part])
            added = None if document_scores is None else document_scores[part]
            ahead = None if added is None else LookAhead(trie, added)
            search = _Search(decoder, trie, results, widths, score, starts, ahead)
            search.run(len(input_ids[part]))
            best = search.best
            if trie.one_to_one:
                rows[part, :results] = best.rows(trie)
                scores[part, :results] = best.ranks
            else:
                rows[part], scores[part] = documents_of(best.leaves, best.scores, trie, k, added)
    return rows, scores


@dataclass
class _Results:
    """The best identifiers so far, best first.

    Attributes:
        leaves: -1 for none; int64 [queries, results].
        scores: The model's scores, -inf for none; float32 [queries, results].
        ranks: The sort keys: the scores plus the document scores; float32 [queries, results].
    """

    leaves: torch.Tensor
    scores: torch.Tensor
    ranks: torch.Tensor

    @classmethod
    def nothing(cls, queries: int, results: int, device: torch.device) -> _Results:
        """Allocates room for this many results."""
        leaves = torch.full((queries, results), -1, device=device)
        scores = torch.full((queries, results), -torch.inf, device=device)
        return cls(leaves, scores, scores.clone())

    def add(
        self,
        queries: torch.Tensor,
        leaves: torch.Tensor,
        scores: torch.Tensor,
        ranks: torch.Tensor,
        trie: TorchTrie,
    ) -> None:
        """Keeps the best of the old and these; a rank of -inf means no identifier.

        Args:
            queries: The query of each row; int64 [some queries].
            leaves: int64 [some queries, identifiers].
            scores: float32 [some queries, identifiers].
            ranks: float32 [some queries, identifiers].
            trie: The trie.
        """
        leaves = torch.cat([self.leaves[queries], leaves], dim=1)
        scores = torch.cat([self.scores[queries], scores], dim=1)
        ranks = torch.cat([self.ranks[queries], ranks], dim=1)
        best = best_places(ranks, trie.row[leaves.clamp_min(0)], self.leaves.shape[1])
        best_ranks = ranks.gather(1, best)
        self.ranks[queries] = best_ranks
        self.scores[queries] = scores.gather(1, best).masked_fill(
            best_ranks == -torch.inf, -torch.inf
        )
        self.leaves[queries] = leaves.gather(1, best).masked_fill(best_ranks == -torch.inf, -1)

    def rows(self, trie: TorchTrie) -> torch.Tensor:
        """Returns the table row at each leaf, -1 for none; int64 [queries, results]."""
        return trie.row[self.leaves.clamp_min(0)].long().masked_fill(self.leaves < 0, -1)

    def beats(self, queries: torch.Tensor, running: torch.Tensor) -> torch.Tensor:
        """Returns the queries for which no continuation of their beams can still enter.

        Args:
            queries: int64 [some queries].
            running: The sort keys of the beams; float32 [some queries, beams].
        """
        best = running[:, 0]
        return (self.ranks[queries, -1] > best) | (best == -torch.inf)


@dataclass
class _Beams:
    """The continuations at the start of a level.

    Attributes:
        queries: Their queries, as indices into the batch; int64 [queries].
        nodes: int64 [queries, beams].
        scores: The model's scores; float32 [queries, beams].
        ranks: The sort keys, descending: the scores plus the document scores; float32 [queries,
            beams].
        parents: The beam of the previous level that each continues; int64 [queries, beams].
        starts: The first-level node of each; int64 [queries, beams].
    """

    queries: torch.Tensor
    nodes: torch.Tensor
    scores: torch.Tensor
    ranks: torch.Tensor
    parents: torch.Tensor
    starts: torch.Tensor

    def take(self, places: torch.Tensor) -> _Beams:
        """Returns the beams of some of the queries; int64 [taken]."""
        return _Beams(*(getattr(self, entry.name)[places] for entry in fields(self)))


class _Search:
    """The search of one batch of queries.

    Args:
        decoder: A decoder positioned before the first code.
        trie: The live identifiers.
        results: Number of identifiers to find.
        widths: Number of continuations to keep on each level.
        score: "model" or "constrained".
        starts: As in `beam_search`.
        ahead: The look-ahead scores to add to the model's.
    """

    def __init__(
        self,
        decoder: Decoder,
        trie: TorchTrie,
        results: int,
        widths: list[int],
        score: str,
        starts: int,
        ahead: LookAhead | None,
    ) -> None:
        self.decoder = decoder
        self.trie = trie
        self.widths = widths
        self.starts = starts
        self.ahead = ahead
        self.constrained = score == "constrained"
        self.results = results

    def run(self, queries: int) -> None:
        """Runs the search; the result is in `found`."""
        device, trie = self.trie.device, self.trie
        self.best = _Results.nothing(queries, self.results, device)
        zeros = torch.zeros((queries, 1), dtype=torch.int64, device=device)
        every = torch.arange(queries, device=device)
        beams = _Beams(every, zeros, zeros.float(), zeros.float(), zeros, zeros)
        codes = torch.full_like(zeros, PAD)
        levels = self._levels_at_once(queries)
        if levels:
            begun = self.decoder.begin(*trie.first_levels(levels))
        for level in range(trie.depth):
            if levels and level <= levels:
                # The first nodes are numbered 0, 1, 2, ..., which are also their rows here.
                rows = beams.nodes.unsqueeze(-1).expand(-1, -1, begun.shape[2])
                states = begun.gather(1, rows)
            else:
                states = self.decoder.step(codes, beams.parents)
            before, beams = beams, self._next(level, beams, states)
            if levels and level == levels:
                beams.parents = before.nodes.gather(1, beams.parents)
            if not beams.nodes.shape[1]:
                break
            beams = self._finish(level + 1, beams)
            if not len(beams.queries):
                break
            codes = trie.code[beams.nodes].long()

    def _levels_at_once(self, queries: int) -> int:
        """Returns how many first levels to read together with the root.

        All of their nodes must continue. Of the first level, all must be kept; of the next, a few
        rows more cost less than a step of their own, which reads all weights again.
        """
        trie = self.trie
        levels = 0
        for level in range(1, min(self.decoder.begins, trie.depth - 1) + 1):
            nodes = trie.inner[level]
            rows = trie.level_starts[level + 1] * queries
            kept = level == 1 and nodes <= self.widths[0]
            if trie.leaves[level] or trie.chains[level] or not (kept or rows <= FEW_ROWS):
                break
            levels = level
        return levels

    def _next(self, level: int, beams: _Beams, states: torch.Tensor) -> _Beams:
        """Enters the identifiers of the next level, and returns the continuations."""
        trie = self.trie
        branching = trie.branching[level]
        children, totals = self._continuations(level, beams, states)
        ranks = totals
        if self.ahead is not None and level == 0:
            ranks = totals + self.ahead.of_first_level()
        elif self.ahead is not None:
            ranks = totals + self.ahead.of(beams.queries, children)
        order = trie.lowest_row[children].expand_as(totals)
        if trie.leaves[level + 1]:
            ranks = self._enter(level, beams.queries, children, totals, ranks, order)
        width = min(self.widths[level], trie.inner[level + 1], totals.shape[1])
        if level and width and self.starts > 1:
            starts = beams.starts.repeat_interleave(branching, 1)
            share = -(-self.widths[level] // self.starts)
            best = _best_of_each(ranks, order, width, starts, share)
        else:
            best = best_places(ranks, order, width)
        nodes = children.expand_as(totals).gather(1, best)
        parents = best // branching
        return _Beams(
            beams.queries,
            nodes,
            totals.gather(1, best),
            ranks.gather(1, best),
            parents,
            beams.starts.gather(1, parents) if level else nodes,
        )

    def _enter(
        self,
        level: int,
        queries: torch.Tensor,
        children: torch.Tensor,
        totals: torch.Tensor,
        ranks: torch.Tensor,
        order: torch.Tensor,
    ) -> torch.Tensor:
        """Enters the identifiers among the best continuations, and returns the ranks of the others.

        Args:
            level: The level to continue.
            queries: int64 [queries].
            children: The continuations; int64 [queries or 1, continuations].
            totals: The model's scores; float32 [queries, continuations].
            ranks: The sort keys; float32 [queries, continuations].
            order: The tie breakers; integers [queries, continuations].
        """
        trie = self.trie
        best = best_places(ranks, order, min(self.widths[level], ranks.shape[1]))
        leaves, entering = children.expand_as(ranks).gather(1, best), ranks.gather(1, best)
        if trie.inner[level + 1]:
            entering = entering.masked_fill(trie.row[leaves] < 0, -torch.inf)
            ranks = ranks.masked_fill(trie.row[children] >= 0, -torch.inf)
        self.best.add(queries, leaves, totals.gather(1, best), entering, trie)
        return ranks

    def _continuations(
        self, level: int, beams: _Beams, states: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Lists the children of every beam's node with their scores.

        Returns:
            Nodes, int64, and scores, float32, both [queries, beams * branching], the nodes of the
            first level [1, branching]; the score is -inf if there is no child or its probability is
            0.
        """
        trie, branching = self.trie, self.trie.branching[level]
        if level == 0:
            # All queries are at the root: they share one list of children.
            children = torch.arange(1, branching + 1, device=trie.device).unsqueeze(0)
            logits = self.decoder.logits(states).float().squeeze(1)
            if self.constrained:
                totals = _columns(logits, trie).log_softmax(-1)
            else:
                totals = _columns(logits.log_softmax(-1), trie)
            # If one of a query's logits is NaN, so are all of its log-probabilities.
            unknown = totals[:, :1].isnan()
            return children, totals.masked_fill(unknown, -torch.inf) if unknown.any() else totals
        children, codes, exist = trie.continuations(beams.nodes, branching)
        if self.constrained:
            logits = self.decoder.logits_at(states, codes).float()
            steps = logits.masked_fill(~exist, -torch.inf).log_softmax(-1)
        else:
            steps = self.decoder.log_probabilities(states, codes)
            steps = steps.masked_fill_(~exist, -torch.inf)
        totals = beams.scores.unsqueeze(-1) + steps
        children, totals = children.flatten(1), totals.flatten(1)
        return children, totals.masked_fill_(totals.isnan(), -torch.inf)

    def _finish(self, level: int, beams: _Beams) -> _Beams:
        """Removes finished queries, and returns the beams of the others.

        A query is finished if none of its beams can still enter the best documents, or if none of
        them branches anymore: the rest of their identifiers is then read in one pass. That prunes
        nothing, since there are no more identifiers than beams.
        """
        running = torch.ones(len(beams.queries), dtype=torch.bool, device=beams.queries.device)
        checked = False
        if any(self.trie.leaves[: level + 1]):
            running &= ~self.best.beats(beams.queries, beams.ranks)
            checked = True
        if self.trie.chains[level] and beams.nodes.shape[1] <= min(self.widths[level:]):
            branches = (self.trie.tail[beams.nodes] == 0) & (beams.scores > -torch.inf)
            ending = running & ~branches.any(1)
            if ending.any():
                self._read_tails(beams, ending)
                running &= ~ending
            checked = True
        if not checked or running.all():
            return beams
        places = running.nonzero().squeeze(1)
        if len(places):
            self.decoder = self.decoder.take(places)
        return beams.take(places)

    def _read_tails(self, beams: _Beams, ending: torch.Tensor) -> None:
        """Enters the documents of beams that have a single continuation at each step.

        Args:
            beams: The beams of all queries.
            ending: Mask of the queries to finish; bool [queries].
        """
        trie, decoder = self.trie, self.decoder
        if not bool(ending.all()):
            places = ending.nonzero().squeeze(1)
            beams, decoder = beams.take(places), decoder.take(places)
        lengths = trie.tail[beams.nodes].masked_fill(beams.scores == -torch.inf, 0)
        path = [beams.nodes]
        for _ in range(int(lengths.max())):
            # A path stays at its document once it gets there.
            further = lengths >= len(path)
            path.append(torch.where(further, trie.first_child[path[-1]].long(), path[-1]))
        scores = beams.scores
        if not self.constrained and len(path) > 1:
            codes = trie.code[torch.stack(path, 2)].long()
            length = len(path) - 1
            place = torch.arange(length, device=codes.device)
            for queries, rows in _parts(len(codes), codes.shape[1], TAIL_ROWS // length):
                part = decoder.take(torch.arange(len(codes), device=codes.device)[queries])
                states = part.tails(codes[queries, rows, :-1], beams.parents[queries, rows])
                steps = _log_probabilities(part, states, codes[queries, rows, 1:])
                steps = steps.masked_fill(place >= lengths[queries, rows].unsqueeze(-1), 0.0)
                # Added one by one, in the order of a step-by-step search.
                for step in steps.unbind(-1):
                    scores[queries, rows] += step
        scores = scores.masked_fill(scores.isnan(), -torch.inf)
        ranks = scores
        if self.ahead is not None:
            ranks = scores + self.ahead.of(beams.queries, path[-1])
        self.best.add(beams.queries, path[-1], scores, ranks, trie)


def _columns(values: torch.Tensor, trie: TorchTrie) -> torch.Tensor:
    """Selects the first-level codes from values of all codes [queries, codes]."""
    if trie.first_codes is not None:
        return values[:, trie.first_codes]
    return values.index_select(1, trie.code[1 : 1 + trie.branching[0]])


def _parts(queries: int, rows: int, most: int) -> Iterator[tuple[slice, slice]]:
    """Splits [queries, rows] into blocks of about `most`: whole queries, or rows of one."""
    some = max(1, most // rows)
    rows_of_one = max(1, most)
    for query in range(0, queries, some):
        for row in range(0, rows, rows_of_one):
            yield slice(query, query + some), slice(row, row + rows_of_one)


def _log_probabilities(decoder: Decoder, states: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Returns the log-probability of one code after each state; float32, shaped like `codes`."""
    flat, targets = states.flatten(0, -2), codes.reshape(-1, 1)
    parts = []
    for start in range(0, len(flat), LOGIT_ROWS):
        rows = slice(start, start + LOGIT_ROWS)
        parts.append(decoder.log_probabilities(flat[rows], targets[rows]))
    return torch.cat(parts).view(codes.shape)


def best_places(scores: torch.Tensor, order: torch.Tensor, count: int) -> torch.Tensor:
    """Returns the indices of the highest scores in each line, ties broken by lower `order`.

    `topk` does not specify which of equal scores it returns. Here one integer holds both keys: the
    bits of a float32, read as an integer, sort like the number once those of negative numbers are
    flipped, and the lower half has room for an int32.

    Args:
        scores: float32 [lines, candidates].
        order: Integers in [-1, 2^31) [lines, candidates].
        count: Number to return, at most `candidates`.

    Returns:
        int64 [lines, count], best first.
    """
    if not count:
        return torch.zeros((len(scores), 0), dtype=torch.int64, device=scores.device)
    if scores.shape[1] > WIDE and count < scores.shape[1]:
        # Building keys for very many candidates takes longer than finding the few highest. If the
        # last of those has no tie outside, they are the result.
        highest, places = scores.topk(count + 1, dim=1)
        last = highest[:, -2]
        if bool(((last > highest[:, -1]) | (last == -torch.inf)).all()):
            places = places[:, :-1]
            within = best_places(scores.gather(1, places), order.gather(1, places), count)
            return places.gather(1, within)
    bits = scores.contiguous().view(torch.int32)
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    keys = (bits.long() << 32) - order
    return keys.topk(count, dim=1).indices


def _best_of_each(
    scores: torch.Tensor, order: torch.Tensor, count: int, groups: torch.Tensor, share: int
) -> torch.Tensor:
    """Returns the indices of the highest scores in each line, at most `share` of each group.

    The best of the others fill any remaining room.

    Args:
        scores: As in `best_places`, like order and count.
        order: Tie breakers.
        count: Number to return.
        groups: int64 [lines, candidates].
        share: Maximum number from one group.

    Returns:
        int64 [lines, count], best first.
    """
    ranked = best_places(scores, order, scores.shape[1])
    by_group, sorting = groups.gather(1, ranked).sort(dim=1, stable=True)
    places = torch.arange(scores.shape[1], device=scores.device)
    inside = places - torch.searchsorted(by_group, by_group)
    over_share = torch.empty_like(inside).scatter_(1, sorting, inside) >= share
    over_share |= scores.gather(1, ranked) == -torch.inf
    chosen = over_share.sort(dim=1, stable=True).indices[:, :count]
    return ranked.gather(1, chosen.sort(1).values)


def refuse_narrow(k: int, beams: int) -> None:
    """Raises InputError if this many beams cannot return this many documents."""
    if k < 1:
        raise InputError(f"cannot return {k} documents", hint="Use at least 1")
    if beams < k:
        raise InputError(f"{beams} beams cannot find {k} documents", hint=f"Use at least {k} beams")


def readable(
    input_ids: torch.Tensor, attention_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gives empty queries one padding token to attend to; returns queries and mask.

    Attention over nothing is NaN in some implementations.
    """
    if input_ids.shape[1] == 0:
        input_ids = input_ids.new_full((len(input_ids), 1), PAD)
        attention_mask = attention_mask.new_zeros((len(attention_mask), 1))
    attention_mask = attention_mask.clone()
    attention_mask[:, 0] = torch.where(attention_mask.any(dim=1), attention_mask[:, 0], 1)
    return input_ids, attention_mask


def refuse_other_scores(scores: torch.Tensor, queries: int, trie: TorchTrie) -> None:
    """Raises InputError if document scores do not match the queries and the trie's rows."""
    rows = trie.rows
    if scores.dim() != 2 or len(scores) != queries or scores.shape[1] < rows:
        raise InputError(
            f"document scores [{', '.join(map(str, scores.shape))}] for {queries} queries and "
            f"{rows} table rows",
            hint="Give one number for each query and row",
        )


def elements_per_query(model: PreTrainedModel, length: int, trie: TorchTrie, beams: int) -> int:
    """Estimates the peak number of elements held for one query."""
    config = decoder_config(model.config)
    layers = getattr(config, "num_decoder_layers", None) or getattr(config, "decoder_layers", None)
    a_place = 2 * (layers or config.num_hidden_layers) * config.hidden_size
    alphabet = int(trie.code.max()) + 1
    widest, nodes = 1, 1
    for branching, inner in zip(trie.branching, trie.inner, strict=False):
        width = min(beams, inner)
        nodes += width
        # Keys and values, with as much spare room; logits and their exponentials; and nodes, codes,
        # keys and scores of the candidates.
        stored = a_place * (width * length + 2 * nodes)
        widest = max(widest, stored + width * (2 * alphabet + 8 * branching))
    return widest
