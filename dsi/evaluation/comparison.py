"""Compares systems on the same queries: grouped by options, averaged over seeds, tested."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.dataset import Dataset
from dsi.evaluation.judgments import group_queries, judgments_of
from dsi.evaluation.measures import names_of
from dsi.evaluation.significance import compare

LEVEL = 0.05
"""A difference with a corrected p-value below this is called significant."""
_UNSET = "-"
_TIE = 1e-9
"""Percentage points below which a difference comes from rounding."""


@dataclass(frozen=True)
class Measured:
    """The measures of one index, run or baseline.

    Attributes:
        name: Its name, used if its options do not distinguish it from the others.
        per_query: query_id -> {measure: value}, for every judged query of the split.
        options: Option -> value, without the seed; empty if it has no options.
        seed: Random seed of its training; None if it has none.
        cost: Costs: "training seconds", "search seconds", "GiB".
        ranked: query_id -> the top document, to show examples.
    """

    name: str
    per_query: Mapping[str, Mapping[str, float]]
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    cost: Mapping[str, float] = field(default_factory=dict)
    ranked: Mapping[str, str] = field(default_factory=dict)


def differing(systems: Iterable[Measured]) -> list[str]:
    """Returns the options in which systems with options differ, sorted by name."""
    with_options = [system.options for system in systems if system.options]
    names = sorted(set().union(*with_options))
    return [
        name
        for name in names
        if len({repr(options.get(name, _UNSET)) for options in with_options}) > 1
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values for multiple testing (Holm, Scandinavian Journal of Statistics, 1979).

    The i-th smallest of n is multiplied by n - i + 1, is at least the one before, and at most 1. It
    bounds the family-wise error rate; scipy has only corrections of the false discovery rate.

    Args:
        p_values: In any order.

    Returns:
        The corrected p-values, in the same order.
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(steps, 1)
    return [float(value) for value in corrected]


def compare_systems(
    dataset: Dataset,
    split: str,
    systems: Sequence[Measured],
    *,
    by: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Groups systems by the options in which they differ, and compares the groups.

    The seeds of a group are averaged per query, and each pair of groups is compared with the paired
    randomization test. The p-values of a measure are corrected for the number of pairs.

    Args:
        dataset: The dataset.
        split: "train", "dev" or "test".
        systems: At least one; groups are in order of first appearance.
        by: The options to group by; None for those that differ.
        seed: Random seed of the significance tests.

    Returns:
        dataset, split, queries {group of queries: number}, options (that differ), groups (a list of
        label, letter, options, seeds, measures {group of queries: {measure: {mean, sd}}}, cost),
        pairs (a list of first, second, and per measure the difference with its p-values).
    """
    qrels = judgments_of(dataset, split)
    members = {
        name: queries
        for name, queries in group_queries(qrels, judgments_of(dataset, "train")).items()
        if queries
    }
    varied = list(differing(systems) if by is None else by)
    grouped: dict[str, list[Measured]] = {}
    for system in systems:
        grouped.setdefault(label_of(system, varied), []).append(system)
    names = names_of(qrels)
    groups = [
        _group(label, letter, each, varied, members, names)
        for (label, each), letter in zip(grouped.items(), _letters(), strict=False)
    ]
    values = {label: _values(each, members["all"]) for label, each in grouped.items()}
    return {
        "dataset": dataset.info.name,
        "split": split,
        "queries": {name: len(queries) for name, queries in members.items()},
        "options": varied,
        "groups": groups,
        "pairs": _pairs(values, names, seed),
    }


def label_of(system: Measured, varied: Sequence[str]) -> str:
    """Returns the label of a group: the options in which it differs, or its name."""
    if not system.options:
        return system.name
    if not varied:
        return "index"
    return ", ".join(f"{name} {system.options.get(name, _UNSET)}" for name in varied)


def _letters() -> Iterable[str]:
    for width in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_lowercase, repeat=width))


def _values(systems: Sequence[Measured], queries: Sequence[str]) -> npt.NDArray[np.float64]:
    """Returns the values of a group, averaged over its seeds; [queries, measures]."""
    each = [[list(system.per_query[q].values()) for q in queries] for system in systems]
    return np.array(each, dtype=np.float64).mean(axis=0)


def _group(
    label: str,
    letter: str,
    systems: Sequence[Measured],
    varied: Sequence[str],
    members: Mapping[str, Sequence[str]],
    names: Sequence[str],
) -> dict[str, Any]:
    measures: dict[str, dict[str, Any]] = {}
    for queries_of, queries in members.items():
        means = np.array([_values([system], queries).mean(axis=0) for system in systems])
        measures[queries_of] = {
            name: _spread(means[:, column].tolist()) for column, name in enumerate(names)
        }
    costs = dict.fromkeys(name for system in systems for name in system.cost)
    return {
        "label": label,
        "letter": letter,
        "options": {name: systems[0].options.get(name) for name in varied if systems[0].options},
        "seeds": [system.seed for system in systems if system.seed is not None],
        "runs": len(systems),
        "measures": measures,
        "cost": {
            name: _spread([system.cost[name] for system in systems if name in system.cost])
            for name in costs
        },
    }


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    """Returns the mean, and the sample standard deviation if there are two or more values."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": deviation}


def _pairs(
    values: Mapping[str, npt.NDArray[np.float64]], names: Sequence[str], seed: int
) -> list[dict[str, Any]]:
    pairs = list(itertools.combinations(values, 2))
    compared = [compare(values[one], values[other], seed=seed) for one, other in pairs]
    results: list[dict[str, Any]] = [
        {"first": one, "second": other, "measures": {}} for one, other in pairs
    ]
    for column, name in enumerate(names):
        corrected = holm([each[column].p_value for each in compared])
        for result, each, p_value in zip(results, compared, corrected, strict=True):
            result["measures"][name] = {**asdict(each[column]), "p_holm": p_value}
    return results


def better_than(data: Mapping[str, Any], measure: str) -> dict[str, str]:
    """Returns label -> the letters of the groups that it beats significantly."""
    letters = {group["label"]: group["letter"] for group in data["groups"]}
    beaten: dict[str, list[str]] = {label: [] for label in letters}
    for pair in data["pairs"]:
        test = pair["measures"][measure]
        if test["p_holm"] < LEVEL and test["difference"]:
            first_wins = test["difference"] > 0
            winner, loser = (
                (pair["first"], pair["second"]) if first_wins else (pair["second"], pair["first"])
            )
            beaten[winner].append(letters[loser])
    return {label: "".join(sorted(each)) for label, each in beaten.items()}


def best_of(data: Mapping[str, Any], measure: str) -> str:
    """Returns the label of the group with the highest mean over all queries."""
    groups = data["groups"]
    return str(max(groups, key=lambda group: group["measures"]["all"][measure]["mean"])["label"])


def conclusion(data: Mapping[str, Any], measure: str = "Success@1") -> str:
    """Returns a sentence that names the best group, its margin, and whether it is significant."""
    groups = {group["label"]: group for group in data["groups"]}
    best = best_of(data, measure)
    value = groups[best]["measures"]["all"][measure]["mean"]
    queries = data["queries"]["all"]
    opening = f"{best} is right at rank 1 for {100 * value:.1f} % of {queries:,} queries"
    others = sorted(
        (group for label, group in groups.items() if label != best),
        key=lambda group: -group["measures"]["all"][measure]["mean"],
    )
    if not others:
        return f"{opening}."
    second = others[0]["label"]
    points = 100 * (value - others[0]["measures"]["all"][measure]["mean"])
    if abs(points) < _TIE:
        return f"{opening}, and so is {second}: they tie."
    [pair] = [pair for pair in data["pairs"] if {pair["first"], pair["second"]} == {best, second}]
    p_value = pair["measures"][measure]["p_holm"]
    margin = f"{points:.1f}" if points >= 0.1 else "less than 0.1"
    significance = f"p = {p_value:.3f}" if p_value >= 0.001 else "p < 0.001"
    if p_value < LEVEL:
        return f"{opening}, {margin} points more than {second} ({significance})."
    return f"{opening}; {second} is {margin} points behind, which may be chance ({significance})."
