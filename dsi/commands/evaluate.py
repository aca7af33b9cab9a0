"""`dsi evaluate`: evaluates indexes and runs, next to baselines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from data_prep.checks import given
from data_prep.errors import InputError
from data_prep.marks import Advanced, Seed
from data_prep.passages import document_of
from dsi.command_line.arguments import SPREAD
from dsi.command_line.command_report import Report
from dsi.commands.search_arguments import SearchArguments
from dsi.evaluation.judgments import documents_of, judgments_of

if TYPE_CHECKING:
    from data_prep.dataset import Dataset
    from dsi.commands.outputs import Outputs
    from dsi.distributed.processes import Processes
    from dsi.evaluation.comparison import Measured
    from dsi.index import Index
    from dsi.search.options import SearchOptions
    from dsi.search.runs import Run

_FLAGS = SearchArguments()
DEPTH = 100
"""Number of documents evaluated per query: the deepest cutoff of the measures."""


def evaluate(
    index_or_run: list[Path],
    dataset: Path,
    *,
    split: str = "test",
    baselines: str = "bm25,bm25+queries",
    language: Advanced[str] = "english",
    flags: Annotated[SearchArguments, SPREAD] = _FLAGS,
    table: list[Path] | None = None,
    per_query: Path | None = None,
    report: Path | None = None,
    seed: Advanced[Seed] = 0,
) -> Report:
    """Evaluates indexes, or any TREC runs, on the queries of a dataset.

    Every judged query of the split counts; one without results counts as 0. Queries are grouped
    into seen (a relevant document has a labeled training query) and unseen. A paired randomization
    test compares each baseline with the index. Under torchrun the processes share the queries.

    Several indexes and runs are grouped by the training options in which they differ; seeds are
    averaged, and every pair of groups is compared, with Holm's correction.

    Args:
        index_or_run: Index folders or TREC run files.
        dataset: Dataset folder.
        split: Split to evaluate on: train, dev or test.
        baselines: Baselines, separated by commas. bm25; bm25+queries (with the training queries
            of each document); dense:MODEL (pretrained encoder); fusion:MODEL (both, weighted on
            dev); none.
        language: Language of the baselines' stemmer and stop words; none disables both.
        flags: Search options.
        table: Files for the comparison as a table: .md, .tex, .csv or .json, separated by commas.
        per_query: File for the values of each query: .csv or .parquet.
        report: File for the comparison as an HTML page.
        seed: Random seed of the significance tests.
    """
    from dsi.commands.outputs import Outputs

    outputs = Outputs(table or [], per_query, report)
    if not index_or_run:
        raise InputError(
            "INDEX_OR_RUN is missing", hint="Give the folder of an index, or a run file"
        )
    if len(index_or_run) > 1 or outputs.any_requested:
        return _evaluate_several(
            index_or_run, dataset, split, baselines, language, flags, outputs, seed
        )
    [only] = index_or_run
    return _measure_one(only, dataset, split, baselines, language, flags, seed)


def _evaluate_several(
    paths: list[Path],
    dataset: Path,
    split: str,
    baselines: str,
    language: str,
    flags: SearchArguments,
    outputs: Outputs,
    seed: int,
) -> Report:
    """Evaluates and compares several indexes and runs."""
    from data_prep.dataset import Dataset
    from dsi.distributed.processes import Processes
    from dsi.evaluation.comparison import Measured, compare_systems
    from dsi.evaluation.measures import evaluate_run

    if flags.run is not None:
        why = "--table, --per-query or --report" if len(paths) == 1 else "several indexes or runs"
        raise InputError(
            f"--run {flags.run} cannot be combined with {why}",
            hint="Write the run with a command of its own",
        )
    _refuse_missing(paths)
    if not any(path.is_dir() for path in paths):
        _refuse_search_arguments(flags)
    opened = Dataset.open(dataset)
    qrels = _judged(opened, split)
    _baseline_names(baselines)
    processes = Processes()
    systems: list[Measured] = []
    remarks: list[str] = []
    for path in paths:
        if path.is_dir():
            measured, notes = measured_index(path, opened, qrels, flags, processes)
            systems.append(measured)
            remarks += [f"{path}: {line}" for line in notes]
        else:
            run = _read(path, qrels, split)
            systems.append(
                Measured(path.name, evaluate_run(qrels, run).per_query, ranked=_first_of(run))
            )
    systems = disambiguated(systems)
    baseline_measures, notes = measured_baselines(baselines, opened, split, language)
    systems += baseline_measures
    remarks += notes
    data = compare_systems(opened, split, systems, seed=seed)
    return processes.in_main_process(
        lambda: outputs.write(data, opened, split, systems, remarks)
    ) or outputs.as_report(data, remarks)


def _refuse_missing(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.exists():
            raise InputError("no such index or run", where=path)


def disambiguated(systems: Sequence[Measured]) -> list[Measured]:
    """Returns systems; those with equal options and seed get their names in place of options."""
    from dsi.evaluation.comparison import differing, label_of

    varied = differing(systems)
    times = Counter((label_of(each, varied), each.seed) for each in systems)
    names = Counter(each.name for each in systems)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]} appears twice", hint="Give each index and run once")
    return [
        replace(each, options={}) if times[label_of(each, varied), each.seed] > 1 else each
        for each in systems
    ]


def measured_index(
    path: Path,
    dataset: Dataset,
    qrels: dict[str, dict[str, int]],
    flags: SearchArguments,
    processes: Processes,
) -> tuple[Measured, list[str]]:
    """Searches an index for every judged query; returns its measures, and notes.

    Args:
        path: The folder of the index.
        dataset: The dataset.
        qrels: The judgments of the split.
        flags: Search options.
        processes: The processes that share the queries.
    """
    from dsi.evaluation.comparison import Measured
    from dsi.evaluation.measures import evaluate_run

    searched = search_index(path, dataset, qrels, flags, processes)
    options = _flat(searched.options)
    seed = options.pop("seed", None)
    per_query = evaluate_run(qrels, searched.run).per_query
    measured = Measured(str(path), per_query, options, seed, searched.cost, _first_of(searched.run))
    return measured, searched.remarks


def measured_baselines(
    names: str, dataset: Dataset, split: str, language: str = "english"
) -> tuple[list[Measured], list[str]]:
    """Runs baselines on every judged query; returns their measures, and notes.

    Args:
        names: Comma-separated names; "none" for none.
        dataset: The dataset.
        split: Split of the queries.
        language: Language of the baselines.
    """
    from dsi.evaluation.comparison import Measured
    from dsi.evaluation.measures import evaluate_run

    qrels = _judged(dataset, split)
    texts = dataset.query_texts()
    queries = {query_id: texts[query_id] for query_id in qrels}
    systems: list[Measured] = []
    remarks: list[str] = []
    for name, (run, took, notes) in _run_baselines(
        _baseline_names(names), dataset, queries, language
    ).items():
        per_query = evaluate_run(qrels, run).per_query
        cost = {"search seconds": took}
        systems.append(Measured(name, per_query, cost=cost, ranked=_first_of(run)))
        remarks += notes
    return systems, remarks


@dataclass(frozen=True)
class IndexRun:
    """The search results of an index for the queries of a split.

    Attributes:
        run: The documents found for each query.
        options: Its training options, nested; empty if unknown.
        cost: "search seconds" and "GiB".
        remarks: Notes for the user.
    """

    run: Run
    options: Mapping[str, Any]
    cost: dict[str, float]
    remarks: list[str]


def search_index(
    path: Path,
    dataset: Dataset,
    qrels: dict[str, dict[str, int]],
    flags: SearchArguments,
    processes: Processes,
) -> IndexRun:
    """Searches an index for every judged query; the arguments are those of `measured_index`."""
    from dsi.index import Index

    index = processes.together(lambda: Index.open(path, flags.device))
    remarks = _report_unknown_documents(index, qrels, dataset)
    texts = dataset.query_texts()
    queries = {query_id: texts[query_id] for query_id in qrels}
    run, seconds = _search(index, queries, flags, flags.options(), processes)
    stored = index.manifest.configuration.get("options")
    cost = {"search seconds": seconds, "GiB": _bytes_of(path, index.manifest.version) / 2**30}
    return IndexRun(run, stored if isinstance(stored, dict) else {}, cost, remarks)


def _bytes_of(index: Path, version: str) -> int:
    from dsi.index_folder import versions

    folder = versions.folder(index, version)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns options by full name, such as `sam.rho`."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _first_of(run: Run) -> dict[str, str]:
    from dsi.search.runs import ranked

    return {query_id: ranked(scores)[0] for query_id, scores in run.items() if scores}


def _measure_one(
    index_or_run: Path,
    dataset: Path,
    split: str,
    baselines: str,
    language: str,
    flags: SearchArguments,
    seed: int,
) -> Report:
    """Evaluates one index or run and baselines; the arguments are those of `evaluate`."""
    from data_prep.dataset import Dataset
    from dsi.index_folder import versions

    if index_or_run.is_dir():
        versions.live(index_or_run)  # fails early, before torch is imported
    opened = Dataset.open(dataset)
    _refuse_missing([index_or_run])
    qrels = _judged(opened, split)
    names = _baseline_names(baselines)
    beams = flags.beams
    texts = opened.query_texts()
    queries = {query_id: texts[query_id] for query_id in qrels}

    from dsi.evaluation.report import evaluate_systems

    runs: dict[str, Run] = {}
    seconds: dict[str, float] = {}
    remarks: list[str] = []
    if index_or_run.is_dir():
        from dsi.distributed.processes import Processes
        from dsi.index import Index

        processes = Processes()
        options = flags.options()
        index = processes.together(lambda: Index.open(index_or_run, flags.device))
        remarks += _report_unknown_documents(index, qrels, opened)
        # Before the search, so that its results are not lost if an encoder cannot be loaded.
        others = _run_baselines(names, opened, queries, language)
        runs["index"], seconds["index"] = _search(index, queries, flags, options, processes)
        if beams is not None and beams < DEPTH:
            remarks.append(
                f"{beams} beams find at most {beams} documents, which limits Hits@100 and R@100."
            )
        if flags.run is not None:
            from dsi.search.runs import write_run

            run = flags.run
            processes.in_main_process(lambda: write_run(run, runs["index"]))
    else:
        _refuse_search_arguments(flags)
        runs["run"] = _read(index_or_run, qrels, split)
        missing = len(qrels.keys() - runs["run"].keys())
        if missing:
            remarks.append(
                f"{missing:,} of {len(qrels):,} queries are not in the run and count as 0."
            )
        others = _run_baselines(names, opened, queries, language)
    for name, (run_of, took, remarked) in others.items():
        runs[name], seconds[name] = run_of, took
        remarks += remarked
    return evaluate_systems(opened, split, runs, seconds=seconds, remarks=remarks, seed=seed)


def _judged(dataset: Dataset, split: str) -> dict[str, dict[str, int]]:
    """Returns the document judgments of a split, which must have some."""
    splits = list(dataset.info.qrels)
    if split not in splits:
        raise InputError(
            f"no split {split!r} with judgments",
            where=dataset.path,
            hint=f"Choose from: {', '.join(splits)}"
            if splits
            else f"Prepare it with --queries FILE --{split}-qrels FILE",
        )
    return judgments_of(dataset, split)


def _baseline_names(words: str) -> list[str]:
    """Returns the names in a comma-separated list; refuses unknown names and duplicates."""
    from dsi.evaluation.baselines.base import parse

    if words == "none":
        return []
    names = list(dict.fromkeys(word.strip() for word in words.split(",")))
    for name in names:
        parse(name)
    return names


def _run_baselines(
    names: list[str], dataset: Dataset, queries: dict[str, str], language: str
) -> dict[str, tuple[Run, float, list[str]]]:
    """Runs baselines; returns the run, the seconds and the notes of each."""
    from dsi.evaluation.baselines import make_baseline

    answers = {}
    for name in names:
        started = time.perf_counter()
        baseline = make_baseline(name, dataset, language)
        run = baseline.run(queries, DEPTH if dataset.info.passages is None else 4 * DEPTH, name)
        run = documents_of(dataset, run, DEPTH)
        answers[name] = (run, time.perf_counter() - started, baseline.remarks)
    return answers


def _refuse_search_arguments(flags: SearchArguments) -> None:
    """Raises InputError if an option is given that applies to indexes only."""
    for name in given(flags):
        raise InputError(
            f"--{name} is for an index, and a run file was given",
            hint=f"Omit --{name}, or give the folder of an index",
        )


def _report_unknown_documents(
    index: Index, qrels: dict[str, dict[str, int]], dataset: Dataset
) -> list[str]:
    """Reports how many queries are about documents that the index has never had, if any.

    Raises:
        InputError: All queries are about such documents.
    """
    relevant = [{doc_id for doc_id, grade in each.items() if grade > 0} for each in qrels.values()]
    relevant_ids = sorted(set().union(*relevant))
    if index.manifest.passages is None:
        rows = index.table.find(relevant_ids)
        indexed = {doc_id for doc_id, row in zip(relevant_ids, rows, strict=True) if row >= 0}
    else:
        indexed = {document_of(passage_id) for passage_id in index.table.doc_ids}
    unanswerable = sum(indexed.isdisjoint(each) for each in relevant)
    if relevant_ids and unanswerable == len(relevant):
        raise InputError(
            f"the index has none of the documents that its queries are judged for (such as "
            f"{relevant_ids[0]!r})",
            where=dataset.path,
            hint="Give the dataset of this index, or the index of this dataset",
        )
    return (
        [
            f"{unanswerable:,} of {len(relevant):,} queries are judged for documents "
            "that are not in the index."
        ]
        if unanswerable
        else []
    )


def _search(
    index: Index,
    queries: dict[str, str],
    flags: SearchArguments,
    options: SearchOptions,
    processes: Processes,
) -> tuple[Run, float]:
    """Searches an index; returns its run, and the duration in seconds."""
    from dsi.search.hops import ranked_documents

    beams = flags.beams
    k = DEPTH if beams is None else min(DEPTH, beams)
    started = time.perf_counter()
    texts = list(queries.values())
    if flags.hops.count:
        chains = index.hops(
            texts,
            k,
            flags.hops,
            beams=beams,
            options=options,
            processes=processes,
            with_sentences=False,
        )
        rankings = [ranked_documents(each, k) for each in chains]
    else:
        all_hits = index.search(texts, k, beams, options=options, processes=processes)
        rankings = [{hit.doc_id: hit.score for hit in hits} for hits in all_hits]
    return dict(zip(queries, rankings, strict=True)), time.perf_counter() - started


def _read(path: Path, qrels: dict[str, dict[str, int]], split: str) -> Run:
    """Reads a run file with results for queries of the split."""
    from dsi.search.runs import read_run

    run = read_run(path)
    if not run:
        raise InputError("the run file is empty", where=path)
    if not run.keys() & qrels.keys():
        raise InputError(
            f"no query of the run is in split {split!r} (the run has {next(iter(run))!r}, the"
            f" split has {next(iter(qrels))!r})",
            where=path,
            hint="Give the run of this dataset's queries, or another --split",
        )
    return run
