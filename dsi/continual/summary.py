"""Summarizes the results of a comparison: measures, means, standard deviations."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.files import read_json, write_json
from dsi.continual import performance_matrix as continual
from dsi.continual.callback import read_curve

MEASURES = ("Hits@1", "Hits@10", "indexing")
WINDOWS = (10, 100)
SUMMARY = "summary.json"


def performance_of(results: Sequence[dict[str, Any]], measure: str) -> npt.NDArray[np.float64]:
    """Returns P[n, o] of one measure, NaN for corpora not added yet; [corpora, corpora]."""
    table = np.full((len(results), len(results)), np.nan)
    for n, result in enumerate(results):
        table[n, : n + 1] = [corpus[measure] for corpus in result["performance"]]
    return table


def results_of(out: Path, strategy: str, seed: int) -> list[dict[str, Any]]:
    """Returns the available results after D0 and each increment."""
    folder = out / "results" / f"{strategy}-seed{seed}"
    results: list[dict[str, Any]] = []
    while (file := folder / f"d{len(results)}.json").is_file():
        results.append(read_json(file))
    return results


def curves_of(out: Path, strategy: str, seed: int, corpora: int) -> list[list[dict[str, Any]]]:
    """Returns the evaluations during each increment, from the first one on."""
    folder = out / "curves" / f"{strategy}-seed{seed}"
    return [read_curve(folder / f"d{number}.jsonl") for number in range(1, corpora)]


def measures_of(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns A_n, F_n and LA_n of every measure after each increment, and the costs."""
    measures: dict[str, Any] = {}
    for measure in MEASURES:
        table = performance_of(results, measure)
        steps = range(len(results))
        measures[measure] = {
            "A": [continual.average_performance(table, n) for n in steps],
            "F": [continual.forgetting(table, n) for n in steps],
            "LA": [continual.learning_performance(table, n) for n in steps],
        }
    after = results[1:]
    measures["updates"] = sum(result["updates"] for result in after)
    measures["steps"] = sum(result["steps"] for result in after)
    measures["seconds"] = sum(result["seconds"] for result in after)
    return measures


def stability_of(curves: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """Returns stability measures of the evaluations during increments; empty if there are none.

    Args:
        curves: The rows of each increment, in order. Corpus o, from 0, is in those of increment o
            and of every later one.
    """
    if not curves or not all(curves):
        return {}
    corpora = len(curves) + 1
    # From the last evaluation of a corpus's own update on.
    histories: list[list[float]] = []
    right: list[list[str]] = []
    for corpus in range(corpora):
        before = [] if corpus == 0 else curves[corpus - 1][-1:]
        later = [row for rows in curves[corpus:] for row in rows]
        histories.append([row["corpora"][corpus]["Hits@10"] for row in [*before, *later]])
        right.append([row["corpora"][corpus]["indexed"] for row in [*before, *later]])
    old, newest = histories[:-1], histories[-1]
    events = [
        continual.forgetting_events(np.array([[mark == "1" for mark in row] for row in rows]))
        for rows in right[:-1]
    ]
    counts = np.concatenate(events)
    measures: dict[str, Any] = {
        "min-ACC": continual.min_acc(old),
        "WC-ACC": continual.worst_case_acc(newest[-1], old),
        "forgetting events": float(counts.mean()),
        "never forgotten": float((counts == 0).mean()),
    }
    for window in WINDOWS:
        measures[f"WF{window}"] = continual.windowed_forgetting(old, window)
        measures[f"WP{window}"] = continual.windowed_plasticity(old, window)
    return measures


def summarize(out: Path, strategies: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Summarizes all strategies with complete runs, and writes `summary.json`.

    Returns:
        strategy -> mean and standard deviation over seeds of every figure, and the figures
        themselves.
    """
    summary: dict[str, Any] = {"seeds": len(seeds), "first_seed": seeds[0], "strategies": {}}
    for strategy in strategies:
        runs = []
        for seed in seeds:
            results = results_of(out, strategy, seed)
            if len(results) > 1:
                run = measures_of(results)
                run["stability"] = stability_of(curves_of(out, strategy, seed, len(results)))
                run["results"] = [
                    {name: value for name, value in result.items() if name != "ranks"}
                    for result in results
                ]
                runs.append(run)
        if runs:
            summary["strategies"][strategy] = {"last": last_of(runs), "runs": runs}
    write_json(out / SUMMARY, summary)
    return summary


def last_of(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Returns mean and sample deviation over seeds of the figures after the last corpus."""
    rows = []
    for run in runs:
        row = {
            f"{letter} {measure}": run[measure][letter][-1]
            for measure in MEASURES
            for letter in ("A", "F", "LA")
        }
        row.update({name: run[name] for name in ("updates", "steps", "seconds")})
        row.update(run["stability"])
        rows.append(row)
    last: dict[str, dict[str, float | None]] = {}
    for name in rows[0]:
        values = [row[name] for row in rows if row.get(name) is not None]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        last[name] = {"mean": statistics.mean(values), "sd": deviation}
    return last


def means_of(runs: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, float]:
    """Returns some figures of `last_of` as one row: NAME, and NAME sd if there are several runs."""
    last, row = last_of(runs), {}
    for name in names:
        for key, value in last.get(name, {}).items():
            if value is not None:
                row[name if key == "mean" else f"{name} {key}"] = value
    return row
