"""`instant`: solves for the row of each new document, with everything else frozen.

IncDSI (Kishore et al., ICML 2023) adds a document to a model with one output row per document. It
chooses the row v so that the document's own queries h_q score it above every other document, and
the queries of other documents do not score it above their own:

    lam * sum_q relu(max_j <h_q, v_j> + m1 - <h_q, v>)^2
    + (1 - lam) * sum_i relu(<hbar_i, v> - <hbar_i, v_i> + m2)^2 + l2 * ||v - v0||^2

by L-BFGS. Here v0 is the document's row after model expansion (`anchor` zero: the paper's ||v||^2),
and the sum includes only the old documents closest to being outranked, as long as no other is
outranked. `closed` replaces the inequalities of the objective with equalities, and solves that
least-squares problem directly.

With identifiers of several codes, only the row of the last code is solved for, if no other document
has that code.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from dsi.updating.plan import Update
from dsi.updating.strategies.base import STRATEGIES, Outcome, Standalone

if TYPE_CHECKING:
    import torch

    from dsi.updating.options import InstantOptions

_ROUNDS = 5
"""Maximum number of rounds that add outranked documents to those considered."""


@dataclass(frozen=True)
class Problem:
    """The inputs to solving for one row.

    Attributes:
        queries: Query states of the new document; float32 [queries, width].
        best: Highest logit of another document for each query; float32 [queries].
        keys: Mean states of the queries of old documents; float32 [old, width].
        own: Logit of each old document for its own key; float32 [old].
        start: Initial row of the document; float32 [width].
    """

    queries: torch.Tensor
    best: torch.Tensor
    keys: torch.Tensor
    own: torch.Tensor
    start: torch.Tensor


def objective(row: torch.Tensor, problem: Problem, options: InstantOptions) -> torch.Tensor:
    """Returns IncDSI's objective of a row; a scalar."""
    import torch

    behind = torch.relu(problem.best + options.margin_new - problem.queries @ row)
    ahead = torch.relu(problem.keys @ row - problem.own + options.margin_old)
    origin = problem.start if options.anchor == "start" else torch.zeros_like(problem.start)
    return (
        options.lam * behind.square().sum()
        + (1 - options.lam) * ahead.square().sum()
        + options.l2 * (row - origin).square().sum()
    )


def solve(
    problem: Problem,
    options: InstantOptions,
    *,
    scores: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Returns the row that minimizes the objective; float32 [width].

    The old documents closest to being outranked are considered first; others that the row outranks
    are added until there are none.

    Args:
        problem: The inputs.
        options: Options of the strategy.
        scores: `keys @ start`, if already computed; float32 [old].
        lengths: Norm of each key, if already computed; float32 [old].
    """
    import torch

    start = problem.start
    scores = problem.keys @ start if scores is None else scores
    lengths = torch.linalg.vector_norm(problem.keys, dim=1) if lengths is None else lengths
    before = scores - problem.own + options.margin_old
    most = min(options.competitors, len(before))
    among = before.topk(most).indices if most else torch.zeros(0, dtype=torch.int64)
    row = start
    for _ in range(_ROUNDS):
        part = Problem(
            problem.queries, problem.best, problem.keys[among], problem.own[among], start
        )
        row = _closed(part, options) if options.solver == "closed" else _descend(part, options)
        # By Cauchy-Schwarz, a key's product changes by at most its norm times that of the change.
        reached = before + lengths * torch.linalg.vector_norm(row - start)
        reached[among] = 0
        doubtful = torch.nonzero(reached > 0).ravel()
        overtaken = doubtful[
            problem.keys[doubtful] @ row - problem.own[doubtful] + options.margin_old > 0
        ]
        if not len(overtaken):
            break
        among = torch.cat([among, overtaken[:most]])
    return row


def _descend(problem: Problem, options: InstantOptions) -> torch.Tensor:
    import torch

    row = problem.start.clone().requires_grad_(True)
    search = torch.optim.LBFGS(
        [row],
        max_iter=options.iterations,
        tolerance_change=1e-6,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        search.zero_grad()
        value = objective(row, problem, options)
        value.backward()
        return value

    search.step(closure)
    return row.detach()


def _closed(problem: Problem, options: InstantOptions) -> torch.Tensor:
    """Regularized least squares whose targets are the limits that the initial row violates.

    min_v sum_k w_k (<g_k, v> - t_k)^2 + l2 ||v - v0||^2 has the solution
    v0 + G^T (G G^T + l2 W^-1)^-1 (t - G v0), a system of one equation per vector g.
    """
    import torch

    origin = problem.start if options.anchor == "start" else torch.zeros_like(problem.start)
    vectors = torch.cat([problem.queries, problem.keys])
    now = vectors @ origin
    queries = len(problem.queries)
    targets = torch.cat(
        [
            torch.maximum(now[:queries], problem.best + options.margin_new),
            torch.minimum(now[queries:], problem.own - options.margin_old),
        ]
    )
    weights = torch.full_like(now, 1 - options.lam)
    weights[:queries] = options.lam
    system = vectors @ vectors.T + torch.diag(options.l2 / weights)
    return origin + vectors.T @ torch.linalg.solve(system, targets - now)


class Instant(Standalone):
    """Writes the rows of new documents one by one; nothing is trained."""

    name = "instant"
    reads = frozenset({"instant"})
    ignores = frozenset({"ratio", "new_fraction", "steps", "batch", "lr"})
    plain_head = True

    def run(self, update: Update, work: Path) -> Outcome:
        """Solves for the row of every new document whose last code is unique to it.

        Raises:
            InputError: There are no pseudo-queries, or no new document has a unique last code.
        """
        from dsi.updating.expansion import expanded_model

        began = time.perf_counter()
        if update.generator is None:
            raise InputError(
                "--strategy instant needs pseudo-queries, and there are none",
                hint="Choose a --generator",
            )
        model = expanded_model(update)
        grown = time.perf_counter()
        solvable = solvable_rows(update)
        if not solvable:
            raise InputError(
                "--strategy instant writes rows that only new documents have, but these documents "
                "share all their codes with old ones",
                hint="Use --strategy edit or generative",
            )
        read = solve_rows(model, update, solvable)
        ended = time.perf_counter()
        per_document = 1000 / len(solvable)
        reached = {
            "steps": 0,
            "batch": 0,
            "solved": len(solvable),
            "unsolved": len(update.new_rows) - len(solvable),
        }
        milliseconds = {
            "growing": (grown - began) * per_document,
            "reading queries": (read - grown) * per_document,
            "solving": (ended - read) * per_document,
            "all": (ended - began) * per_document,
        }
        return Outcome(model, update.text, reached, {"milliseconds a document": milliseconds})


def solvable_rows(update: Update) -> list[int]:
    """Returns the table rows of new documents whose last code only new documents have."""
    from dsi.updating.expansion import new_documents_of

    table = update.assignment.table
    lasts = table.last_codes(update.new_rows)
    own = np.isin(lasts, new_documents_of(update).own_codes())
    return [row for row, alone in zip(update.new_rows.tolist(), own, strict=True) if alone]


def solve_rows(model: Any, update: Update, solvable: Sequence[int]) -> float:
    """Solves for the rows of documents in place; returns when the queries had been read.

    Args:
        model: The expanded model.
        update: The update.
        solvable: Table rows of the documents; see `solvable_rows`.
    """
    import torch

    options = update.options.instant
    table = update.assignment.table
    live = [*update.old_rows.tolist(), *solvable]
    means, counts = mean_states(model, update, live, options.queries)
    read = time.perf_counter()
    codes = torch.from_numpy(table.last_codes(np.array(live)).astype(np.int64))
    write_rows(
        model.get_output_embeddings().weight.detach(),
        torch.from_numpy(means),
        codes,
        counts,
        known=len(live) - len(solvable),
        options=options,
    )
    return read


def write_rows(
    rows: torch.Tensor,
    keys: torch.Tensor,
    codes: torch.Tensor,
    counts: npt.NDArray[np.int64],
    *,
    known: int,
    options: InstantOptions,
) -> None:
    """Solves for the rows of new documents one by one, each given the rows before it.

    Args:
        rows: The output layer, modified in place; float32 [alphabet, width].
        keys: Mean query state of each document, old ones first; float32
            [documents, width].
        codes: Output row of each document; int64 [documents].
        counts: Number of queries per document; a new document without queries keeps its row.
        known: Number of old documents.
        options: Options of the strategy.
    """
    import torch

    fresh = codes[known:]
    lengths = torch.linalg.vector_norm(keys, dim=1)
    # Products that do not change while solving are computed in one multiplication.
    own_logits = (keys * rows[codes]).sum(dim=1)
    scores = keys @ rows[fresh].T
    settled = torch.ones(len(rows), dtype=torch.bool)
    settled[fresh] = False
    best = (keys[known:] @ rows[settled].T).amax(dim=1)
    for number, code in enumerate(fresh.tolist()):
        place = known + number
        if not counts[place]:
            continue
        query = keys[place]
        leader = torch.cat([best[number : number + 1], rows[fresh[:number]] @ query]).max()
        problem = Problem(
            query.unsqueeze(0),
            leader.unsqueeze(0),
            keys[:place],
            own_logits[:place],
            rows[code].clone(),
        )
        rows[code] = solve(problem, options, scores=scores[:place, number], lengths=lengths[:place])
        own_logits[place] = query @ rows[code]


def mean_states(
    model: Any, update: Update, rows: Sequence[int], most: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Returns the mean state of some queries of each document, at the position of the last code.

    Args:
        model: The model.
        update: The update; its corpus has the queries.
        rows: Table rows of the documents.
        most: Maximum queries per document.

    Returns:
        float32 [rows, width], 0 for a document without queries; and the number of queries per
        document.
    """
    from dsi.rows.states import last_states

    table = update.assignment.table
    asked = update.corpus.pseudo_queries_of((table.doc_ids[row] for row in rows), most)
    counts = np.array([len(queries) for queries in asked.values()], np.int64)
    lines = update.text.encode(
        list(chain.from_iterable(asked.values())), update.manifest.query_length
    )
    prefixes = np.repeat(np.arange(len(rows)), counts).tolist()
    known = [table.sequence(row)[:-1] for row in rows]
    states = last_states(model, lines, [known[place] for place in prefixes])
    means = np.zeros((len(rows), states.shape[1]), np.float32)
    there = np.flatnonzero(counts)
    begins = np.cumsum(counts) - counts
    means[there] = np.add.reduceat(states, begins[there]) / counts[there, None]
    return means, counts


STRATEGIES.register("instant")(Instant())
