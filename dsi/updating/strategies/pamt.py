"""`pamt`: a product-key memory before the output layer, of which an update moves few rows.

PAMT (parametric memory head, arXiv 2604.23388): once a model is adapted, it is frozen. A memory
with fixed product keys reads the decoder's states, and what it adds to them goes through the
frozen output layer to the codes that the trie allows. An update moves a fixed number of the
memory's rows: those that the new documents' queries read often and earlier queries read rarely, by
the ratio of frequencies

    reads by new queries / (1 + reads by old queries)

Everything else is as it was, so that a query of an old document that reads none of these rows has
the same scores. Keys are k-means centroids of the halves of states of old queries. Implemented from
the abstract; the learning of the values is our own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.errors import InputError
from dsi.updating.strategies.base import STRATEGIES, Outcome, Standalone, Update
from dsi.updating.strategies.edit import AllowedCodes, queries_of
from dsi.updating.strategies.instant import solvable_rows, solve_rows

if TYPE_CHECKING:
    import torch

    from dsi.backbones.output_states import ProductKeyMemory

STATE = "pamt"
_BATCH = 256
_ITERATIONS = 20


class Pamt(Standalone):
    """Trains the values of some rows of the memory; nothing else but rows of new documents."""

    name = STATE
    reads = frozenset({"pamt", "instant"})
    ignores = frozenset({"ratio", "new_fraction", "steps", "batch", "lr"})
    plain_head = True

    def run(self, update: Update, work: Path) -> Outcome:
        """Counts the reads of old and new queries, and trains the rows that these choose.

        Raises:
            InputError: There are no pseudo-queries, or the decoder is unknown.
        """
        import torch

        from dsi.backbones.output_states import ProductKeyMemory, add_map, map_of
        from dsi.updating.expansion import expanded_model
        from dsi.updating.structures.closed_form import fingerprint

        began = time.perf_counter()
        options = update.options.pamt
        if update.generator is None:
            raise InputError(
                "--strategy pamt needs pseudo-queries, and there are none",
                hint="Choose a --generator",
            )
        model = expanded_model(update)
        if options.solve and (solvable := solvable_rows(update)):
            solve_rows(model, update, solvable)
        before = reads_of_old(model, update)
        memory = map_of(model)
        if memory is None:
            memory = _new_memory(torch.cat([each for each, _, _ in _states(model, update)]), update)
            add_map(model, memory)
        assert isinstance(memory, ProductKeyMemory)
        if before is None:
            before = sum(
                (reads(memory, states) for states, _, _ in _states(model, update)),
                torch.zeros(len(memory.values), dtype=torch.float64),
            )
        counted = time.perf_counter()
        new = list(_states(model, update, new=True))
        states, codes, prefixes = (torch.cat(list(each)) for each in zip(*new, strict=True))
        now = reads(memory, states)
        moved = most_specific(now, before, options.rows)
        _train(model, memory, moved, states, codes, prefixes, update)
        ended = time.perf_counter()
        state = {
            "reads": before + now,
            "fingerprint": fingerprint(model),
            "moved": memory.values.any(dim=1).sum().unsqueeze(0),
        }
        per_document = 1000 / max(1, len(update.new_rows))
        reached = {
            "steps": options.steps if len(moved) else 0,
            "batch": min(_BATCH, len(states)),
            "moved": len(moved),
            "bytes kept a document": memory.values.nbytes / len(update.assignment.table.live),
        }
        milliseconds = {
            "old queries": (counted - began) * per_document,
            "training": (ended - counted) * per_document,
            "all": (ended - began) * per_document,
        }
        timing = {"milliseconds a document": milliseconds}
        return Outcome(model, update.text, reached, timing, strategy_state={STATE: state})


def reads_of_old(model: Any, update: Update) -> torch.Tensor | None:
    """Returns the stored reads of each row, float64 [rows]; None if the network has moved since."""
    import torch

    from dsi.backbones.output_states import ProductKeyMemory, map_of
    from dsi.updating.strategy_state import read_strategy_state
    from dsi.updating.structures.closed_form import fingerprint

    memory = map_of(model)
    if not isinstance(memory, ProductKeyMemory):
        return None
    state = read_strategy_state(update.parent, STATE, {"row": len(memory.values)})
    if state and torch.equal(state["fingerprint"], fingerprint(model)):
        return state["reads"]
    return None


def reads(memory: ProductKeyMemory, states: torch.Tensor) -> torch.Tensor:
    """Returns how often states read each row, each read by its weight; float64 [rows].

    Args:
        memory: The memory.
        states: floating [states, width].
    """
    import torch

    counts = torch.zeros(len(memory.values), dtype=torch.float64)
    rows, weights = memory.addresses(states)
    return counts.index_add_(0, rows.flatten(), weights.flatten().double())


def most_specific(now: torch.Tensor, before: torch.Tensor, most: int) -> torch.Tensor:
    """Returns the rows that are read often now and rarely before; int64, at most `most`.

    Args:
        now: Reads of each row by new queries; float64 [rows].
        before: Reads by old ones; float64 [rows].
        most: Maximum number of rows.
    """
    scores = now / (1 + before)
    found = scores.topk(min(most, len(scores))).indices
    return found[scores[found] > 0]


def _states(
    model: Any, update: Update, *, new: bool = False
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yields states before the memory, codes, and the codes before them, of old or new queries.

    Yields:
        floating [states, width]; int64 [states]; int64 [states, positions], 0 behind the prefix.
    """
    import torch

    from dsi.backbones.output_states import MappedNorm
    from dsi.backbones.position_edits import place_of
    from dsi.updating.structures.closed_form import readings

    options = update.options.pamt
    rows, most = update.new_rows, options.queries
    if not new:
        rng = np.random.default_rng([update.options.seed, 25])
        rows = rng.permutation(update.old_rows)[: options.samples]
        most = min(most, max(1, options.samples // max(1, len(rows))))
    texts, identifiers = queries_of(update, rows.tolist(), most)
    if not texts:
        return
    norm = place_of(model, STATE).norm
    plain = norm.unmapped if isinstance(norm, MappedNorm) else norm
    longest = int(update.assignment.table.lengths.max())
    for reading in readings(model, texts, identifiers):
        with torch.no_grad():
            states = plain(reading.states).cpu()
        codes = reading.codes.cpu()
        for position in range(codes.shape[1]):
            there = codes[:, position] > 0
            if bool(there.any()):
                prefixes = torch.zeros((int(there.sum()), longest), dtype=torch.int64)
                prefixes[:, :position] = codes[there, :position]
                yield states[there, position].float(), codes[there, position], prefixes


def _new_memory(states: torch.Tensor, update: Update) -> ProductKeyMemory:
    """Returns a memory whose keys are centroids of the halves of states."""
    import torch

    from docids.kinds.clustering import kmeans
    from dsi.backbones.output_states import ProductKeyMemory

    options = update.options.pamt
    keys = min(options.keys, len(states))
    memory = ProductKeyMemory(states.shape[1], keys, min(options.top, keys * keys))
    halves = states.split((memory.first.shape[1], memory.second.shape[1]), dim=1)
    spread = 0.0
    for half, known in zip(halves, (memory.first, memory.second), strict=True):
        known.copy_(torch.from_numpy(kmeans(half.numpy(), keys, _ITERATIONS, update.options.seed)))
        spread += float(torch.cdist(half, known).amin(dim=1).square().mean())
    memory.spread.fill_(max(spread, 1e-6))
    return memory


def _train(
    model: Any,
    memory: ProductKeyMemory,
    moved: torch.Tensor,
    states: torch.Tensor,
    codes: torch.Tensor,
    prefixes: torch.Tensor,
    update: Update,
) -> None:
    """Trains the values of some rows, in place, by cross-entropy over the codes of new queries."""
    import torch
    from torch.nn import functional

    if not len(moved):
        return
    options = update.options.pamt
    allowed = AllowedCodes(update) if update.manifest.score == "constrained" else None
    rows, weights = memory.addresses(states)
    place = torch.full((len(memory.values),), len(moved))
    place[moved] = torch.arange(len(moved))
    rest = states + (weights.unsqueeze(-1) * memory.values[rows]).sum(dim=1)
    values = torch.zeros((len(moved), states.shape[1]), requires_grad=True)
    optimizer = torch.optim.Adam([values], lr=options.rate * float(states.square().mean().sqrt()))
    head = model.get_output_embeddings().weight.detach().float().cpu()
    rng = np.random.default_rng([update.options.seed, 26])
    scale = float(states.square().sum(dim=1).mean())
    depths = (prefixes > 0).sum(dim=1)
    for _ in range(options.steps):
        picked = torch.from_numpy(rng.permutation(len(states))[:_BATCH])
        own = torch.cat([values, values.new_zeros((1, values.shape[1]))])[place[rows[picked]]]
        logits = (rest[picked] + (weights[picked].unsqueeze(-1) * own).sum(dim=1)) @ head.T
        if hasattr(model, "capped"):
            logits = model.capped(logits)
        if allowed is not None:
            logits = logits.masked_fill(
                ~_mask(allowed, prefixes[picked], depths[picked], len(head)), -1e9
            )
        size = (weights[picked].unsqueeze(-1) * own).sum(dim=1).square().sum(dim=1) / scale
        loss = functional.cross_entropy(logits, codes[picked]) + options.l2 * size.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    memory.values[moved] += values.detach().to(memory.values)


def _mask(
    allowed: AllowedCodes, prefixes: torch.Tensor, depths: torch.Tensor, alphabet: int
) -> torch.Tensor:
    """Returns which codes may follow prefixes of several lengths; bool [rows, alphabet]."""
    import torch

    mask = torch.zeros((len(prefixes), alphabet), dtype=torch.bool)
    for depth in depths.unique().tolist():
        there = depths == depth
        found = allowed.after(prefixes[there, :depth])
        mask[there, : found.shape[1]] = found
    return mask


STRATEGIES.register(STATE)(Pamt())
