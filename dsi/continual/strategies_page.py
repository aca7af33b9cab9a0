"""A comparison of update strategies as an HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.dataset import Dataset, Document
from data_prep.files import writing
from dsi.continual.evaluation_queries import EvaluationQueries
from dsi.continual.figures import curves_figures, increments_figures, learning_and_forgetting
from dsi.reports.charts import Drawing, key, svg_file
from dsi.reports.datasets import corpora_section
from dsi.reports.page import Cell, Example, Heading, examples, figures, page, remark, section, table

SHARES = {
    "A Hits@10": ("↑", "mean over all corpora after the last update"),
    "F Hits@10": ("↓", "what old corpora have lost since their best"),
    "LA Hits@10": ("↑", "each new corpus right after its own update"),
    "A Hits@1": ("↑", "the same as A, of the first document"),
    "F Hits@1": ("↓", "the same as F, of the first document"),
    "A indexing": ("↑", "documents that their own text finds"),
    "F indexing": ("↓", "such documents lost since the best"),
    "min-ACC": ("↑", "lowest point of old corpora during the updates"),
    "WC-ACC": ("↑", "that, and the newest corpus"),
    "WF10": ("↓", "largest fall within ten evaluations"),
    "never forgotten": ("↑", "documents never lost in the indexing task"),
}
"""Measure, shown in per cent -> direction of better values, and full name."""
COSTS = {
    "updates": ("↓", "steps times batch"),
    "seconds": ("↓", "wall-clock time of the updates"),
}
NAMES = {**SHARES, **COSTS}
MOST_SHOWN = 8
"""Queries per list."""
_EXPLAINED = (
    "min-ACC, WC-ACC and WF10 are of Hits@10 during the updates, on a sample of the queries. Never"
    " forgotten: documents that never went from right to wrong in the indexing task."
)


def write_page(
    file: Path,
    out: Path,
    summary: Mapping[str, Any],
    title: str,
    corpora: Sequence[Dataset] = (),
) -> list[Path]:
    """Writes the page, and its figures as SVG files into the folder of the comparison.

    Args:
        file: Output file.
        out: The folder of the comparison.
        summary: The output of `dsi.continual.summary.summarize`.
        title: Title of the page.
        corpora: D0 and the increments, to show the texts of queries; none to leave them out.

    Returns:
        The written files: the page, `increments.svg`, and `curves.svg` if there are curves.
    """
    strategies = list(summary["strategies"])
    curves = curves_figures(out, strategies, summary.get("first_seed", 0))
    rows = increments_figures(summary)
    legend = key(list(enumerate(strategies)))
    texts = queries_between(out, summary, corpora)
    if corpora:
        texts.append(corpora_section(corpora))
    files = {
        file: _page(summary, title, rows, curves, legend, texts),
        out / "increments.svg": svg_file(title, [*rows, [legend]]),
    }
    if curves:
        pairs = [curves[start : start + 2] for start in range(0, len(curves), 2)]
        files[out / "curves.svg"] = svg_file(title, pairs)
    for path, content in files.items():
        with writing(path) as stream:
            stream.write(content)
    return list(files)


def _page(
    summary: Mapping[str, Any],
    title: str,
    rows: Sequence[Sequence[Drawing]],
    curves: Sequence[Drawing],
    legend: Drawing,
    lists: Sequence[str],
) -> str:
    means = means_of(summary)
    parts = [_table(summary, means), remark(f"{_caption(summary)} {_EXPLAINED}")]
    charts = learning_and_forgetting(means)
    if charts:
        caption = "Better is up and left: more is found in the end, and less was lost on the way."
        parts.append(
            section("Learning and forgetting", figures([(each, caption) for each in charts]))
        )
    parts.append(
        section(
            "Over the increments",
            figures([(legend, "")]),
            *(figures([(each, "") for each in row]) for row in rows),
            *(
                [remark("The band of a line is from the lowest to the highest seed.")]
                if summary["seeds"] > 1
                else []
            ),
        )
    )
    if curves:
        caption = (
            "First seed; dotted: an update begins. What falls on a dotted line is lost by making"
            " room for new documents, before the first step."
        )
        parts.append(
            section("During the updates", figures([(each, "") for each in curves]), remark(caption))
        )
    return page(title, conclusion(means), [*parts, *lists])


def _table(summary: Mapping[str, Any], means: Mapping[str, Mapping[str, float | None]]) -> str:
    best = {name: _best(means, name) for name in NAMES}
    rows = [
        [Cell(strategy)]
        + [
            Cell(
                cell_text(entry["last"].get(name), share=name in SHARES),
                best=len(means) > 1 and _is_best(means[strategy][name], best[name]),
            )
            for name in NAMES
        ]
        for strategy, entry in summary["strategies"].items()
    ]
    headings = [Heading(f"{name} {arrow}", meaning) for name, (arrow, meaning) in NAMES.items()]
    return table([Heading("strategy"), *headings], rows)


def _caption(summary: Mapping[str, Any]) -> str:
    seeds = summary["seeds"]
    return "Per cent." if seeds == 1 else f"Per cent, mean of {seeds} seeds ± sample deviation."


def cell_text(value: Mapping[str, float | None] | None, *, share: bool = True) -> str:
    """Formats a mean and its standard deviation."""
    if value is None or value["mean"] is None:
        return "-"
    mean, deviation = value["mean"], value["sd"]
    if not share:
        return f"{mean:,.0f}"
    text = f"{100 * mean:.1f}"
    return text if deviation is None else f"{text} ± {100 * deviation:.1f}"


def means_of(summary: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Returns strategy -> measure -> mean over seeds; None if not measured."""
    return {
        strategy: {name: (entry["last"].get(name) or {}).get("mean") for name in NAMES}
        for strategy, entry in summary["strategies"].items()
    }


def best_first(means: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """Returns the strategies that were measured to the end, the best first.

    By A of Hits@10, in per cent with one decimal; of equal ones, by F and then by updates.
    """

    def key_of(name: str) -> tuple[float, float, float]:
        each = means[name]
        accuracy, lost, updates = (
            each.get(key) or 0.0 for key in ("A Hits@10", "F Hits@10", "updates")
        )
        return -round(100 * accuracy, 1), round(100 * lost, 1), updates

    return sorted((n for n, each in means.items() if each["A Hits@10"] is not None), key=key_of)


def conclusion(means: Mapping[str, Mapping[str, float | None]]) -> str:
    """Returns a sentence that names the best strategy and how much it forgets.

    Args:
        means: Strategy -> measure -> mean over seeds, a share; None if not measured.
    """
    ranked = best_first(means)
    if not ranked:
        return "No strategy has been measured to the end."
    best = ranked[0]
    accuracy, lost = (_percent(means[best][f"{letter} Hits@10"]) for letter in "AF")
    forgotten = "" if lost == "-" else f", and {{}} forgotten {lost} of old ones"
    equal = [
        name
        for name in ranked
        if [_percent(means[name][f"{letter} Hits@10"]) for letter in "AF"] == [accuracy, lost]
    ]
    if len(equal) > 1:
        names = f"{', '.join(equal[:-1])} and {equal[-1]}"
        sentence = f"{names} find {accuracy} of all queries within 10 at the end"
        sentence += forgotten.format("have")
    else:
        sentence = f"{best} finds {accuracy} of all queries within 10 at the end"
        sentence += forgotten.format("has")
    if len(ranked) > len(equal):
        following = ranked[len(equal)]
        second = means[following]
        sentence += f"; next is {following} with {_percent(second['A Hits@10'])}"
        if second["F Hits@10"] is not None:
            sentence += f" and {_percent(second['F Hits@10'])}"
    if len(equal) > 1 and means[best].get("updates") is not None:
        sentence += f"; {best} took the fewest updates"
    return f"{sentence}."


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _best(means: Mapping[str, Mapping[str, float | None]], name: str) -> float | None:
    values = [each[name] for each in means.values()]
    measured = [value for value in values if value is not None]
    if not measured:
        return None
    return min(measured) if NAMES[name][0] == "↓" else max(measured)


def _is_best(value: float | None, best: float | None) -> bool:
    return value is not None and value == best


def queries_between(out: Path, summary: Mapping[str, Any], corpora: Sequence[Dataset]) -> list[str]:
    """Returns the queries that the best strategy finds and the next one does not, and the reverse.

    They are those of the first seed, after the last update.

    Args:
        out: The folder of the comparison.
        summary: The output of `dsi.continual.summary.summarize`.
        corpora: D0 and the increments.

    Returns:
        Sections of a page; none for one strategy, or results of an earlier version without ranks.
    """
    from dsi.continual.summary import results_of

    ranked = best_first(means_of(summary))[:2]
    if len(ranked) < 2 or not corpora:
        return []
    ranks: dict[str, list[list[int]]] = {}
    for name in ranked:
        last = results_of(out, name, summary.get("first_seed", 0))[-1]
        if "ranks" not in last:
            return []
        ranks[name] = last["ranks"]
    queries_of = [EvaluationQueries.of(corpus) for corpus in corpora]
    parts = []
    for winner, loser in (ranked, ranked[::-1]):
        only = [
            (number, place)
            for number, some in enumerate(queries_of)
            for place in range(len(some.queries))
            if ranks[winner][number][place] and not ranks[loser][number][place]
        ]
        if not only:
            continue
        listed = only[:MOST_SHOWN]
        texts = _texts(corpora, {queries_of[number].targets[place] for number, place in listed})
        examples_between = [
            Example(
                queries_of[number].queries[place],
                [("right", texts.get(queries_of[number].targets[place]))],
                f"of corpus D{number}, at rank {ranks[winner][number][place]} with {winner}",
            )
            for number, place in listed
        ]
        heading = f"Within 10 with {winner}, not with {loser}: {len(only):,} queries"
        parts.append(section(heading, examples(examples_between)))
    return parts


def _texts(corpora: Sequence[Dataset], doc_ids: set[str]) -> dict[str, Document]:
    return {
        document.doc_id: document
        for corpus in corpora
        for document in corpus.documents()
        if document.doc_id in doc_ids
    }
