"""The report on systems evaluated on the same queries: data and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.dataset import Dataset
from dsi.command_line.command_report import TableReport, heading
from dsi.evaluation.judgments import group_queries, judgments_of
from dsi.evaluation.measures import evaluate_run, names_of
from dsi.evaluation.significance import compare

if TYPE_CHECKING:
    from rich.console import Console

SHALLOWEST = 10
"""Shorter rankings are not assumed to be truncated."""


@dataclass(frozen=True)
class EvaluationReport:
    """The results of systems on a split.

    Attributes:
        data: `dataset` and `split` by name; `queries` {group: how many}; `systems`
            {system: {group: {measure: value}}}; `comparison`, of the first system with every other
            one, {other: {group: {measure: {"difference", "low", "high", "p_value", "queries"}}}};
            `seconds` {system: seconds of search}, for timed systems. The groups are "all", "seen"
            and "unseen"; empty groups are omitted.
        remarks: Notes below the table.
        depths: System -> the depth at which its run was truncated; deeper measures are shown as a
            dash.
    """

    data: Mapping[str, Any]
    remarks: Sequence[str] = field(default=())
    depths: Mapping[str, int] = field(default_factory=dict)

    def show(self, console: Console) -> None:
        """Prints one table: one line per system and group, one column per measure.

        A group that has all queries has no lines of its own; a remark names it. A star marks values
        that differ from those of the first system with p < 0.05.
        """
        first_groups: Mapping[str, Any] = next(iter(self.data["systems"].values()))
        names = list(first_groups["all"])
        rows = []
        starred = False
        everything = self.data["queries"]["all"]
        same = [
            group
            for group, queries in self.data["queries"].items()
            if group != "all" and queries == everything
        ]
        for group, queries in self.data["queries"].items():
            if group in same:
                continue
            for system, groups in self.data["systems"].items():
                compared = self.data["comparison"].get(system, {}).get(group, {})
                cells = []
                for name in names:
                    if not self._deep_enough(system, name):
                        cells.append("- ")
                        continue
                    star = (
                        name in compared
                        and compared[name]["p_value"] < 0.05
                        and self._deep_enough(next(iter(self.data["systems"])), name)
                    )
                    starred |= star
                    cells.append(f"{groups[group][name]:.3f}{'*' if star else ' '}")
                rows.append([f"{group} ({queries:,})", system, *cells])
        closing = [*(f"all queries are {group}" for group in same), *self.remarks]
        if starred:
            first = next(iter(self.data["systems"]))
            closing.insert(0, f"* differs from {first}, paired randomization test, p < 0.05")
        TableReport(
            data=self.data,
            title=f"{self.data['dataset']}, {self.data['split']}",
            columns=["queries", "system", *map(heading, names)],
            rows=rows,
            closing=closing,
        ).show(console)

    def _deep_enough(self, system: str, name: str) -> bool:
        """Returns whether a system's run is as deep as the cutoff of a measure."""
        depth = self.depths.get(system)
        return depth is None or depth >= int(name.partition("@")[2])


def evaluate_systems(
    dataset: Dataset,
    split: str,
    runs: Mapping[str, Mapping[str, Mapping[str, float]]],
    *,
    seconds: Mapping[str, float] | None = None,
    remarks: Sequence[str] = (),
    seed: int = 0,
) -> EvaluationReport:
    """Evaluates systems on a split, overall and by group, and compares the first with the rest.

    Args:
        dataset: The dataset.
        split: "train", "dev" or "test"; each of its queries with a judgment counts.
        runs: System -> run; all others are compared with the first one.
        seconds: System -> duration of its search.
        remarks: Notes below the table.
        seed: Random seed of the significance tests.
    """
    qrels = judgments_of(dataset, split)
    groups = {
        group: members
        for group, members in group_queries(qrels, judgments_of(dataset, "train")).items()
        if members
    }
    evaluations = {system: evaluate_run(qrels, run) for system, run in runs.items()}
    values = {
        system: {
            group: np.array([list(evaluation.per_query[query].values()) for query in members])
            for group, members in groups.items()
        }
        for system, evaluation in evaluations.items()
    }
    names = names_of(qrels)
    first, *others = runs
    comparison = {
        other: {
            group: {
                name: asdict(result)
                for name, result in zip(
                    names,
                    compare(values[first][group], values[other][group], seed=seed),
                    strict=True,
                )
            }
            for group in groups
        }
        for other in others
    }
    data = {
        "dataset": dataset.info.name,
        "split": split,
        "queries": {group: len(members) for group, members in groups.items()},
        "systems": {
            system: {group: evaluation.mean_of(members) for group, members in groups.items()}
            for system, evaluation in evaluations.items()
        },
        "comparison": comparison,
        "seconds": dict(seconds or {}),
    }
    cut = {system: _cut_at(run) for system, run in runs.items()}
    documents = dataset.info.documents
    depths = {system: depth for system, depth in cut.items() if depth and depth < documents}
    return EvaluationReport(data, tuple(remarks), depths)


def _cut_at(run: Mapping[str, Mapping[str, float]]) -> int | None:
    """Returns the depth at which a run was truncated; None if its rankings are complete.

    A run is assumed to be truncated if more than half of its rankings share the maximum length, and
    this is at least ten.
    """
    lengths = [len(ranking) for ranking in run.values()]
    depth = max(lengths, default=0)
    return depth if depth >= SHALLOWEST and 2 * lengths.count(depth) > len(lengths) else None
