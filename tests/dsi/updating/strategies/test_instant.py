"""Solving for rows: the objective, its minimum, and its least-squares form."""

from __future__ import annotations

import pytest
import torch

from dsi.updating.options import InstantOptions
from dsi.updating.strategies.instant import Problem, objective, solve


def problem(seed: int = 0, width: int = 6, old: int = 12) -> Problem:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    return Problem(draw(1, width), torch.tensor([2.0]), draw(old, width), draw(old), draw(width))


def by_hand(row, given: Problem, options: InstantOptions) -> float:
    behind = sum(
        max(float(best) + options.margin_new - float(query @ row), 0) ** 2
        for query, best in zip(given.queries, given.best, strict=True)
    )
    ahead = sum(
        max(float(key @ row) - float(own) + options.margin_old, 0) ** 2
        for key, own in zip(given.keys, given.own, strict=True)
    )
    origin = given.start if options.anchor == "start" else torch.zeros_like(given.start)
    held = options.l2 * float((row - origin).square().sum())
    return options.lam * behind + (1 - options.lam) * ahead + held


@pytest.mark.parametrize("anchor", ["start", "zero"])
def test_the_objective_equals_plain_python(anchor):
    options = InstantOptions(lam=0.3, margin_new=0.5, margin_old=0.2, l2=0.7, anchor=anchor)
    given = problem()
    row = torch.linspace(-1, 1, 6)
    assert objective(row, given, options).item() == pytest.approx(
        by_hand(row, given, options), rel=1e-5
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_row_found_is_the_minimum(seed):
    options = InstantOptions(l2=0.1, iterations=200)
    given = problem(seed)
    row = solve(given, options)
    least = objective(row, given, options).item()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(50):
        other = row + 0.01 * torch.randn(6, generator=generator)
        assert objective(other, given, options).item() >= least - 1e-4


def test_few_competitors_at_a_time_find_the_same_row():
    given = problem(3, old=40)
    whole = solve(given, InstantOptions(l2=0.1, competitors=40, iterations=200))
    parts = solve(given, InstantOptions(l2=0.1, competitors=10, iterations=200))
    value = objective(whole, given, InstantOptions(l2=0.1)).item()
    assert objective(parts, given, InstantOptions(l2=0.1)).item() <= value * 1.05 + 1e-3


def test_the_closed_form_solves_its_least_squares_problem():
    options = InstantOptions(solver="closed", lam=0.25, l2=0.5)
    given = problem(1)
    row = solve(given, options).double()
    vectors = torch.cat([given.queries, given.keys]).double()
    now = vectors @ given.start.double()
    targets = torch.cat(
        [
            torch.maximum(now[:1], given.best.double() + options.margin_new),
            torch.minimum(now[1:], given.own.double() - options.margin_old),
        ]
    )
    weights = torch.tensor([0.25] + [0.75] * 12, dtype=torch.float64)
    # The gradient of sum w (<g, v> - t)^2 + l2 ||v - v0||^2 vanishes.
    gradient = vectors.T @ (weights * (vectors @ row - targets)) + 0.5 * (
        row - given.start.double()
    )
    assert gradient.abs().max() < 1e-4


def test_a_document_that_leads_already_keeps_its_row():
    given = problem()
    easy = Problem(
        given.queries, given.queries @ given.start - 5, given.keys, given.keys @ given.start + 5,
        given.start,
    )  # fmt: skip
    for solver in ("lbfgs", "closed"):
        torch.testing.assert_close(solve(easy, InstantOptions(solver=solver)), given.start)


def test_what_the_caller_knows_already_changes_nothing():
    given = problem(2, old=40)
    options = InstantOptions(l2=0.1, competitors=5)
    told = solve(
        given,
        options,
        scores=given.keys @ given.start,
        lengths=torch.linalg.vector_norm(given.keys, dim=1),
    )
    assert told.equal(solve(given, options))


def test_documents_that_only_the_solution_overtakes_are_considered():
    """One key stands far behind at the start, but in the way of where the row must go."""
    query = torch.tensor([[1.0, 0.0]])
    keys = torch.tensor([[0.0, 1.0], [3.0, 0.0]])
    own = torch.tensor([-1.0, 3.0])  # the start outranks the first; the second is 3 ahead
    given = Problem(query, torch.tensor([2.0]), keys, own, torch.zeros(2))
    options = InstantOptions(l2=0.01, competitors=1)
    # Alone, the query would pull the row to <query, row> = 3 and the second document with it.
    row = solve(given, options)
    torch.testing.assert_close(
        row, solve(given, InstantOptions(l2=0.01, competitors=2)), atol=1e-2, rtol=0
    )
    assert row[0] < 1.5


def test_rows_are_solved_for_one_after_another(index, corpora, monkeypatch):
    """Every problem stands on the rows that there are when its turn comes."""
    from dsi import Index
    from dsi.updating.options import UpdateOptions
    from dsi.updating.strategies import instant
    from dsi.updating.update import update_index

    seen = []

    def watched(given, options, *, scores, lengths):
        torch.testing.assert_close(scores, given.keys @ given.start, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(lengths, given.keys.norm(dim=1))
        row = given.start + 0.01
        seen.append((given, row))
        return row

    monkeypatch.setattr(instant, "solve", watched)
    update_index(index, corpora["new"], UpdateOptions(strategy="instant"))
    opened = Index.open(index, "cpu")
    rows = opened.model.get_output_embeddings().weight
    codes = [opened.table.sequence(row)[0] for row in range(40)]
    old = [code for code in range(len(rows)) if code not in codes[30:]]
    assert len(seen) == 10
    for number, (given, row) in enumerate(seen):
        torch.testing.assert_close(rows[codes[30 + number]], row)
        rivals = rows[[*old, *codes[30 : 30 + number]]] @ given.queries[0]
        torch.testing.assert_close(given.best[0], rivals.max(), atol=1e-3, rtol=1e-4)
        assert len(given.keys) == 30 + number
        own = (given.keys * rows[codes[: 30 + number]]).sum(dim=1)
        torch.testing.assert_close(given.own, own, atol=1e-3, rtol=1e-4)
