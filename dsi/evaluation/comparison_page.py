"""A comparison of systems as an HTML page: the best system, costs, and per-query differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.dataset import Dataset, Document
from data_prep.files import writing
from data_prep.passages import document_of
from dsi.evaluation.comparison import Measured, best_of, conclusion, label_of
from dsi.evaluation.comparison_tables import (
    COSTS,
    FULL_NAMES,
    SYMBOLS,
    costs_of,
    explained,
    measures_in,
    rows_of,
)
from dsi.evaluation.judgments import judgments_of
from dsi.reports.charts import Axes, Drawing, Point, log_span, point_chart, span
from dsi.reports.datasets import dataset_section
from dsi.reports.page import Cell, Example, Heading, examples, figures, page, remark, section, table

MOST_SHOWN = 8
"""Queries per list."""


def write_page(
    file: Path,
    data: Mapping[str, Any],
    dataset: Dataset,
    split: str,
    systems: Sequence[Measured],
    remarks: Sequence[str] = (),
) -> None:
    """Writes the page.

    Args:
        file: Output file.
        data: The output of `dsi.evaluation.comparison.compare_systems`.
        dataset: The dataset.
        split: Split of the queries.
        systems: The compared systems.
        remarks: Footnotes.
    """
    letters = {group["label"]: group["letter"] for group in data["groups"]}
    names = measures_in(data)
    headings = [
        Heading("System"),
        Heading(""),
        *(Heading(f"{SYMBOLS[name]} ↑", FULL_NAMES[name]) for name in names),
    ]
    rows = [
        [
            Cell(label),
            Cell(letters[label]),
            *(Cell(c.text, c.beats, c.best) for c in cells[: len(names)]),
        ]
        for label, cells in rows_of(data)
    ]
    parts = [table(headings, rows), remark(explained(data))]
    if costs_of(data):
        parts.append(section("What it costs", _cost_table(data), figures(_cost_figures(data))))
    by_group = _group_table(data)
    if by_group:
        parts.append(section("Documents with and without training queries", by_group))
    parts += _differences(data, dataset, split, systems)
    parts.append(dataset_section(dataset, split))
    parts += [remark(line) for line in remarks]
    title = f"{data['dataset']}, {data['split']}: {data['queries']['all']:,} queries"
    with writing(file) as stream:
        stream.write(page(title, conclusion(data), parts))


def _cost_table(data: Mapping[str, Any]) -> str:
    """Returns the costs of each group; the lowest of a column is bold."""
    costs = costs_of(data)
    least = {
        cost: min(g["cost"][cost]["mean"] for g in data["groups"] if cost in g["cost"])
        for cost in costs
    }
    rows = [
        [
            Cell(label),
            *(
                Cell(
                    cell.text,
                    best=len(data["groups"]) > 1
                    and cost in group["cost"]
                    and group["cost"][cost]["mean"] == least[cost],
                )
                for cost, cell in zip(costs, cells[len(measures_in(data)) :], strict=True)
            ),
        ]
        for (label, cells), group in zip(rows_of(data), data["groups"], strict=True)
    ]
    return table([Heading("System"), *(Heading(f"{c} ↓", COSTS[c]) for c in costs)], rows)


def _cost_figures(data: Mapping[str, Any]) -> list[tuple[Drawing, str]]:
    """Plots Hits@1 against each cost that several groups have, with a shared vertical axis."""
    values = [100 * group["measures"]["all"]["Success@1"]["mean"] for group in data["groups"]]
    vertical = span(values, least=2.0, most=100.0)
    drawings = []
    for cost in costs_of(data):
        points = [
            Point(number, group["cost"][cost]["mean"], value, group["letter"], group["label"])
            for number, (group, value) in enumerate(zip(data["groups"], values, strict=True))
            if cost in group["cost"] and group["cost"][cost]["mean"] > 0
        ]
        if len(points) < 2:
            continue
        axes = Axes(
            f"Hits@1 and {cost}",
            f"{cost} (logarithmic)",
            "Hits@1, per cent",
            log_span([point.x for point in points]),
            vertical,
            log_x=True,
            better="↖",
        )
        labels = [(point.number, f"{point.letter}: {point.label}") for point in points]
        drawing = point_chart(axes, points).with_key(labels, lines=False)
        drawings.append((drawing, f"{cost}: {COSTS[cost]}. Better is up and left."))
    return drawings


def _group_table(data: Mapping[str, Any]) -> str:
    """Returns Hits@1 and Hits@10 of seen and unseen queries; empty if there is only one group."""
    groups = [name for name in ("seen", "unseen") if name in data["queries"]]
    if len(groups) < 2:
        return ""
    names = ("Success@1", "Success@10")
    headings = [Heading("System")] + [
        Heading(f"{SYMBOLS[name]} ↑ {group}", f"{data['queries'][group]:,} queries")
        for group in groups
        for name in names
    ]
    columns = [(group, name) for group in groups for name in names]
    best = {
        (group, name): max(each["measures"][group][name]["mean"] for each in data["groups"])
        for group, name in columns
    }
    rows = []
    for each in data["groups"]:
        means = [each["measures"][group][name]["mean"] for group, name in columns]
        rows.append(
            [Cell(each["label"])]
            + [
                Cell(f"{mean:.3f}", best=mean == best[column])
                for mean, column in zip(means, columns, strict=True)
            ]
        )
    return table(headings, rows)


def _differences(
    data: Mapping[str, Any], dataset: Dataset, split: str, systems: Sequence[Measured]
) -> list[str]:
    """Returns the queries that the best group answers and the next does not, and the reverse."""
    best = best_of(data, "Success@1")
    others = [group for group in data["groups"] if group["label"] != best]
    if not others:
        return []
    second = max(others, key=lambda g: g["measures"]["all"]["Success@1"]["mean"])["label"]
    compared = {
        label: [each for each in systems if label_of(each, data["options"]) == label]
        for label in (best, second)
    }
    hits = {
        label: {
            query: sum(each.per_query[query]["Success@1"] for each in group) / len(group)
            for query in group[0].per_query
        }
        for label, group in compared.items()
    }
    lists = []
    for winner, loser in ((best, second), (second, best)):
        only = [q for q in hits[winner] if hits[winner][q] >= 0.5 and hits[loser][q] < 0.5]
        lists.append((winner, loser, only))
    listed = [query for _, _, only in lists for query in only[:MOST_SHOWN]]
    relevant = judgments_of(dataset, split)
    wrong = {
        query: compared[loser][0].ranked.get(query)
        for _, loser, only in lists
        for query in only[:MOST_SHOWN]
    }
    relevant_ids = {d for q in listed for d, grade in relevant[q].items() if grade > 0}
    documents = _documents(dataset, relevant_ids | set(filter(None, wrong.values())))
    texts = dataset.query_texts()
    parts = []
    for winner, loser, only in lists:
        if not only:
            continue
        items = [
            Example(
                texts[query],
                [
                    *(("right", documents.get(d)) for d, g in relevant[query].items() if g > 0),
                    ("found instead", documents.get(wrong[query] or "")),
                ],
            )
            for query in only[:MOST_SHOWN]
        ]
        heading = f"Right at rank 1 with {winner}, not with {loser}: {len(only):,} queries"
        parts.append(section(heading, examples(items)))
    return parts


def _documents(dataset: Dataset, doc_ids: set[str]) -> dict[str, Document]:
    """Returns documents by id; for a document in passages, its first passage."""
    cut = dataset.info.passages is not None
    documents: dict[str, Document] = {}
    for document in dataset.documents():
        doc_id = document_of(document.doc_id) if cut else document.doc_id
        if doc_id in doc_ids:
            documents.setdefault(doc_id, document)
    return documents
