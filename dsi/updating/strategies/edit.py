"""`edit`: edits one decoder layer in closed form, for each position of an identifier.

GenRecEdit (arXiv 2603.14259) and DOME (arXiv 2603.02773) write new documents into a trained model
without training it. For each query of a new document and each position, a few steps on the output
of the decoder's last feed-forward network find the change that makes the document's code probable.
One linear system per position then finds the matrix that makes these changes for these queries and
as little as possible for old ones (`dsi.updating.structures.closed_form`). It acts at its position
only (`dsi.backbones.position_edits`).

What old queries look like is kept with the version, as the mean of k k^T at each position, and
computed again if other updates have trained the network since. Edits of several updates add up.
A rollback drops those of the update.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.errors import InputError
from data_prep.files import read_json
from dsi.updating.strategies.base import STRATEGIES, Outcome, Standalone, Update
from dsi.updating.strategies.instant import solvable_rows, solve_rows

if TYPE_CHECKING:
    import torch

    from dsi.backbones.position_edits import Edited
    from dsi.evaluation.probe import Probe
    from dsi.updating.structures.closed_form import Moments

WEIGHTS = tuple(float(f"{10 ** (half / 2):.1e}") for half in range(11))
"""Weights of old keys to choose from, 1 to 100,000, from the one that changes most."""
WITHOUT_PROBE = 1000.0
"""The weight where there are no probe queries to choose it by."""
WORDS = 8
"""Words in a random set that stands for a query."""
STATE = "edit"


class Edit(Standalone):
    """Edits the layer; nothing else changes except the rows of new documents."""

    name = STATE
    reads = frozenset({"edit", "instant"})
    ignores = frozenset({"ratio", "new_fraction", "steps", "batch", "lr"})
    plain_head = True

    def run(self, update: Update, work: Path) -> Outcome:
        """Reads old and new queries, and adds an edit to each position.

        Raises:
            InputError: There are no pseudo-queries, or the decoder has no layer to edit.
        """
        import torch

        from dsi.backbones.position_edits import add_edits
        from dsi.updating.expansion import expanded_model
        from dsi.updating.structures.closed_form import Moments

        began = time.perf_counter()
        options = update.options.edit
        if update.generator is None:
            raise InputError(
                "--strategy edit needs pseudo-queries, and there are none",
                hint="Choose a --generator",
            )
        model = expanded_model(update)
        table = update.assignment.table
        layer = add_edits(model, int(table.lengths.max()))
        words = write_words(model, update) if options.words else 0
        if options.rows and (solvable := solvable_rows(update)):
            solve_rows(model, update, solvable)
        positions, _, read = layer.edit.shape
        old = moments_of_old(model, update).lengthened(positions)
        kept = time.perf_counter()
        new = Moments.none(positions, read)
        changes = torch.zeros(layer.edit.shape, dtype=torch.float64)
        rows = update.new_rows.tolist()
        texts, identifiers = queries_of(update, rows, options.queries, options.subsets)
        for position, keys, wanted in _changes(model, update, texts, identifiers):
            new.add(position, keys)
            changes[position] += (wanted.double().T @ keys.double()).cpu()
        solving = time.perf_counter()
        lam, measured = _choose(model, layer, update, work, old, new, changes)
        ended = time.perf_counter()
        for position in range(positions):
            old.merge(position, new)
        state = _state(model, layer, update, old)
        per_document = 1000 / max(1, len(update.new_rows))
        reached = {
            "steps": 0,
            "batch": 0,
            "edited": len(update.new_rows),
            "queries": len(texts),
            "words": words,
            "lam": lam,
            **measured,
            "new queries found": _hits(model, update, _new_probe(update)),
        }
        milliseconds = {
            "old queries": (kept - began) * per_document,
            "new queries": (solving - kept) * per_document,
            "solving": (ended - solving) * per_document,
            "all": (ended - began) * per_document,
        }
        return Outcome(
            model,
            update.text,
            reached,
            {"milliseconds a document": milliseconds},
            strategy_state={STATE: state},
        )


def write_words(model: Any, update: Update) -> int:
    """Writes the embeddings of words that no old document has; returns their number."""
    from dsi.rows.new_words import write_new_words

    old, new = (
        [update.documents.tokens[row] for row in rows.tolist()]
        for rows in (update.old_rows, update.new_rows)
    )
    return write_new_words(model, old, new, update.known_tokens, update.text.vocabulary_size)


def queries_of(
    update: Update, rows: Sequence[int], most: int, subsets: int = 0
) -> tuple[list[list[int]], list[list[int]]]:
    """Returns queries of documents, each with one identifier of its document.

    A network reads the words of a query in no order that matters here: random sets of a document's
    words are queries too, and the pseudo-queries alone are too few to tell documents apart.

    Args:
        update: The update; its corpus has the queries.
        rows: Table rows of the documents.
        most: Maximum pseudo-queries per document.
        subsets: Random sets of words per document.

    Returns:
        Token ids of each query, and codes of each identifier.
    """
    table = update.assignment.table
    doc_ids = table.doc_ids
    asked = update.corpus.pseudo_queries_of((doc_ids[row] for row in rows), most)
    known = {doc_ids[row]: [list(each) for each in table.sequences(row)] for row in rows}
    texts, identifiers = [], []
    for doc_id, queries in asked.items():
        for query in queries:
            for identifier in known[doc_id]:
                texts.append(query)
                identifiers.append(identifier)
    tokens = [line or [0] for line in update.text.encode(texts, update.manifest.query_length)]
    for row in rows:
        for some in sets_of_words(update, row, subsets):
            for identifier in known[doc_ids[row]]:
                tokens.append(some)
                identifiers.append(identifier)
    return tokens, identifiers


def sets_of_words(update: Update, row: int, count: int) -> list[list[int]]:
    """Returns random sets of eight of a document's words; none for a document without words.

    Args:
        update: The update.
        row: Table row of the document.
        count: Number of sets.
    """
    rng = np.random.default_rng([update.options.seed, 23, row])
    words = np.array(update.documents.tokens[row])
    return [rng.permutation(words)[:WORDS].tolist() for _ in range(count if len(words) else 0)]


def moments_of_old(model: Any, update: Update) -> Moments:
    """Returns the mean k k^T of old queries: the stored one, or a new one if that is stale."""
    import torch

    from dsi.backbones.position_edits import add_edits, edited_layer
    from dsi.updating.strategy_state import read_strategy_state
    from dsi.updating.structures.closed_form import Moments, fingerprint, readings

    layer = edited_layer(model)
    sizes = {} if layer is None else {"width": layer.edit.shape[2]}
    state = read_strategy_state(update.parent, STATE, sizes)
    if state and layer is not None and torch.equal(state["fingerprint"], fingerprint(model)):
        return Moments(state["seconds"].double(), state["counts"].clone())
    options = update.options.edit
    positions, _, read = add_edits(model, 1).edit.shape
    moments = Moments.none(positions, read)
    rng = np.random.default_rng([update.options.seed, 22])
    rows = rng.permutation(update.old_rows)[: options.samples]
    most = max(1, options.samples // max(1, len(rows)))
    texts, identifiers = queries_of(
        update, rows.tolist(), min(most, options.queries), min(most, options.subsets)
    )
    for reading in readings(model, texts, identifiers):
        for position in range(reading.codes.shape[1]):
            there = reading.codes[:, position] > 0
            moments.add(position, reading.keys[there, position])
    return moments


def _changes(
    model: Any,
    update: Update,
    texts: Sequence[Sequence[int]],
    identifiers: Sequence[Sequence[int]],
) -> Any:
    """Yields position, keys and wanted changes, batch by batch."""
    from dsi.backbones.position_edits import place_of
    from dsi.updating.structures.closed_form import readings, wanted_changes

    options = update.options.edit
    place = place_of(model)
    allowed = AllowedCodes(update) if update.manifest.score == "constrained" else None
    for reading in readings(model, texts, identifiers):
        for position in range(reading.codes.shape[1]):
            there = reading.codes[:, position] > 0
            if not bool(there.any()):
                continue
            codes = reading.codes[there]
            wanted = wanted_changes(
                model,
                place,
                reading.outputs[there, position],
                reading.states[there, position],
                codes[:, position],
                None if allowed is None else allowed.after(codes[:, :position]),
                steps=options.steps,
                rate=options.rate,
                distance=options.distance,
                enough=options.enough,
            )
            yield position, reading.keys[there, position].float(), wanted


class AllowedCodes:
    """The codes that may follow a prefix.

    Args:
        update: The update, with all identifiers.
    """

    def __init__(self, update: Update) -> None:
        from docids.trie import Trie
        from dsi.search.torch_trie import TorchTrie

        table = update.assignment.table
        self._trie = TorchTrie.from_trie(Trie.build(table))
        self._alphabet = table.alphabet_size

    def after(self, prefixes: torch.Tensor) -> torch.Tensor:
        """Returns a mask of the codes after prefixes, int64 [rows, codes]; [rows, alphabet]."""
        import torch

        trie = self._trie
        nodes = torch.zeros(len(prefixes), dtype=torch.int64)
        given = prefixes.cpu()
        for position in range(given.shape[1]):
            nodes = trie.step(nodes, given[:, position], trie.branching[position])
        _, codes, exist = trie.continuations(nodes, trie.branching[given.shape[1]])
        mask = torch.zeros((len(nodes), self._alphabet), dtype=torch.bool)
        mask.scatter_(1, codes.masked_fill(~exist, 0), exist)
        return mask.to(prefixes.device)


def _choose(
    model: Any,
    layer: Edited,
    update: Update,
    work: Path,
    old: Moments,
    new: Moments,
    changes: torch.Tensor,
) -> tuple[float, dict[str, float]]:
    """Adds the edits of the best weight to the layer.

    Returns:
        The weight, and Hits@10 on the probe queries without and with the edits, if measured.
    """
    import torch

    from dsi.evaluation.probe import Probe
    from dsi.updating.structures.closed_form import solved

    options = update.options.edit
    before = layer.edit.clone()

    def apply(lam: float) -> None:
        added = [
            solved(
                new.seconds[position] * int(new.counts[position]),
                changes[position],
                old.seconds[position],
                lam,
            )
            for position in range(len(before))
        ]
        layer.edit = before + torch.stack(added).to(before)

    probe = Probe.from_json(read_json(work / "probe.json"))
    if options.lam is not None or not probe.texts:
        lam = options.lam or WITHOUT_PROBE
        apply(lam)
        return lam, {}
    without = _hits(model, update, probe)
    tried: dict[float, float] = {}

    def kept(lam: float) -> bool:
        apply(lam)
        tried[lam] = _hits(model, update, probe)
        return tried[lam] >= without - options.tolerance

    # A greater weight changes old queries less: bisection finds the lowest that keeps them.
    place = bisect_left(WEIGHTS[:-1], True, key=kept)
    lam = WEIGHTS[place]
    if lam not in tried:
        kept(lam)
    else:
        apply(lam)
    return lam, {"probe without edit": without, "probe with edit": tried[lam]}


def _new_probe(update: Update) -> Probe:
    """Returns the first pseudo-query of each new document."""
    from dsi.evaluation.probe import Probe

    doc_ids = update.assignment.table.doc_ids
    asked: dict[str, str] = {}
    wanted = {doc_ids[row] for row in update.new_rows.tolist()}
    for _, doc_id, text, _ in update.corpus.pseudo_rows():
        if doc_id in wanted and len(asked) < update.options.probe_queries:
            asked.setdefault(doc_id, text)
    return Probe("pseudo", list(asked.values()), list(asked))


def _hits(model: Any, update: Update, probe: Probe) -> float:
    """Returns Hits@10 of the model on probe queries, per cent; 0 if there are none."""
    manifest = update.manifest
    measured = probe.measure(
        model,
        update.text,
        update.assignment.table,
        manifest.query_length,
        manifest.beams,
        manifest.score,
        update.lexical,
    )
    return 100 * measured.get("Success@10", 0.0)


def _state(model: Any, layer: Edited, update: Update, moments: Moments) -> dict[str, torch.Tensor]:
    """Returns what the next update needs, and what `dsi info` shows."""
    import torch

    from dsi.updating.strategy_state import read_strategy_state
    from dsi.updating.structures.closed_form import fingerprint

    before = read_strategy_state(update.parent, STATE)
    documents = before.get("documents", torch.zeros(0, dtype=torch.int64))
    weight: Any = layer.weight
    return {
        "seconds": moments.seconds.float(),
        "counts": moments.counts,
        "fingerprint": fingerprint(model),
        "documents": torch.cat([documents, torch.tensor([len(update.new_rows)])]),
        "change": layer.edit.flatten(1).norm(dim=1) / weight.detach().norm().clamp_min(1e-12),
    }


STRATEGIES.register(STATE)(Edit())
