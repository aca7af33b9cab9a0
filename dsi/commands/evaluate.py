"""`dsi evaluate`: what an index or a run scores, beside baselines."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from data_prep.errors import InputError
from data_prep.marks import Advanced
from data_prep.passages import document_of
from dsi.arguments import SPREAD
from dsi.commands.search_flags import SearchFlags
from dsi.evaluation.passages import documents_of, judgements_of
from dsi.report import Report

if TYPE_CHECKING:
    from data_prep.dataset import Dataset
    from dsi.distributed.processes import Processes
    from dsi.index import Index
    from dsi.search.options import SearchOptions
    from dsi.search.runs import Run

_FLAGS = SearchFlags()
DEPTH = 100
"""How many documents of each query are evaluated: the deepest cutoff of the measures."""


def evaluate(
    index_or_run: Path,
    dataset: Path,
    *,
    split: str = "test",
    baselines: str = "bm25,bm25+queries",
    language: Advanced[str] = "english",
    flags: Annotated[SearchFlags, SPREAD] = _FLAGS,
    seed: Advanced[int] = 0,
) -> Report:
    """Evaluates an index, or any TREC run, on the queries of a dataset.

    Every judged query of the split counts; one without results counts as 0. Queries are grouped
    into seen (a relevant document has a labelled training query) and unseen. A paired randomization
    test compares each baseline with the index. Under torchrun the processes share the queries.

    Args:
        index_or_run: Index folder or TREC run file.
        dataset: Dataset folder.
        split: Split to evaluate on: train, dev or test.
        baselines: Baselines, with commas between. bm25; bm25+queries (with the training queries
            of each document); dense:MODEL (pretrained encoder); fusion:MODEL (both, weighted on
            dev); none.
        language: Language of the baselines' stemmer and stop words; none disables both.
        flags: Search options.
        seed: Random seed of the significance tests.
    """
    from data_prep.dataset import Dataset
    from dsi import versions

    if index_or_run.is_dir():
        versions.live(index_or_run)  # tells at once, before torch is imported
    opened = Dataset.open(dataset)
    qrels = _judged(opened, split)
    names = _baseline_names(baselines)
    beams = flags.beams
    if beams is not None and beams < 1:
        raise InputError(f"{beams} beams", where="--beams", hint="Ask for at least 1")
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
        remarks += _beyond(index, qrels, opened)
        # Before the search, so that an encoder that cannot be loaded does not cost its results.
        others = _beside(names, opened, queries, language)
        runs["index"], seconds["index"] = _search(index, queries, beams, options, processes)
        if beams is not None and beams < DEPTH:
            remarks.append(f"{beams} beams find {beams} documents: Hits@100 and R@100 see no more.")
        if flags.run is not None:
            from dsi.search.runs import write_run

            run = flags.run
            processes.first_alone(lambda: write_run(run, runs["index"]))
    else:
        _refuse_search_flags(flags)
        runs["run"] = _read(index_or_run, qrels, split)
        missing = len(qrels.keys() - runs["run"].keys())
        if missing:
            remarks.append(
                f"{missing:,} of {len(qrels):,} queries are not in the run and count as 0."
            )
        others = _beside(names, opened, queries, language)
    for name, (run_of, took, remarked) in others.items():
        runs[name], seconds[name] = run_of, took
        remarks += remarked
    return evaluate_systems(opened, split, runs, seconds=seconds, remarks=remarks, seed=seed)


def _judged(dataset: Dataset, split: str) -> dict[str, dict[str, int]]:
    """Returns the judgements of a split that has some, of documents."""
    there = list(dataset.info.qrels)
    if split not in there:
        raise InputError(
            f"no split {split!r} with judgements",
            where=dataset.path,
            hint=f"Choose from: {', '.join(there)}"
            if there
            else f"Prepare it with --queries FILE --{split}-qrels FILE",
        )
    return judgements_of(dataset, split)


def _baseline_names(words: str) -> list[str]:
    """Returns the names in a list with commas, each known and none twice."""
    from dsi.evaluation.baselines.base import parse

    if words == "none":
        return []
    names = list(dict.fromkeys(word.strip() for word in words.split(",")))
    for name in names:
        parse(name)
    return names


def _beside(
    names: list[str], dataset: Dataset, queries: dict[str, str], language: str
) -> dict[str, tuple[Run, float, list[str]]]:
    """Asks baselines; returns of each its run, how many seconds it took, and its remarks."""
    from dsi.evaluation.baselines import make_baseline

    answers = {}
    for name in names:
        started = time.perf_counter()
        baseline = make_baseline(name, dataset, language)
        run = baseline.run(queries, DEPTH if dataset.info.passages is None else 4 * DEPTH, name)
        run = documents_of(dataset, run, DEPTH)
        answers[name] = (run, time.perf_counter() - started, baseline.remarks)
    return answers


def _refuse_search_flags(flags: SearchFlags) -> None:
    """Raises InputError when an option is given that only an index has a use for."""
    for name in flags.given():
        raise InputError(
            f"--{name} is for an index, and a run file was given",
            hint=f"Leave --{name} out, or give the folder of an index",
        )


def _beyond(index: Index, qrels: dict[str, dict[str, int]], dataset: Dataset) -> list[str]:
    """Says how many queries ask for documents that the index has never had, if any do.

    Raises:
        InputError: All of them do.
    """
    wanted = [{doc_id for doc_id, grade in each.items() if grade > 0} for each in qrels.values()]
    named = sorted(set().union(*wanted))
    if index.manifest.passages is None:
        rows = index.table.find(named)
        known = {doc_id for doc_id, row in zip(named, rows, strict=True) if row >= 0}
    else:
        known = {document_of(passage_id) for passage_id in index.table.doc_ids}
    beyond = sum(known.isdisjoint(each) for each in wanted)
    if named and beyond == len(wanted):
        raise InputError(
            f"the index has no document that its queries ask for (such as {named[0]!r})",
            where=dataset.path,
            hint="Give the dataset of this index, or the index of this dataset",
        )
    return (
        [f"{beyond:,} of {len(wanted):,} queries ask for documents that the index lacks."]
        if beyond
        else []
    )


def _search(
    index: Index,
    queries: dict[str, str],
    beams: int | None,
    options: SearchOptions,
    processes: Processes,
) -> tuple[Run, float]:
    """Asks an index; returns its run, and how many seconds the search took."""
    k = DEPTH if beams is None else min(DEPTH, beams)
    started = time.perf_counter()
    hits = index.search(list(queries.values()), k, beams, options=options, processes=processes)
    seconds = time.perf_counter() - started
    run = {
        query_id: {hit.doc_id: hit.score for hit in found}
        for query_id, found in zip(queries, hits, strict=True)
    }
    return run, seconds


def _read(path: Path, qrels: dict[str, dict[str, int]], split: str) -> Run:
    """Reads a run file that answers queries of the split."""
    from dsi.search.runs import read_run

    run = read_run(path)
    if not run:
        raise InputError("the run file is empty", where=path)
    if not run.keys() & qrels.keys():
        raise InputError(
            f"no query of the run is in split {split!r} (the run has {next(iter(run))!r},"
            f" the split {next(iter(qrels))!r})",
            where=path,
            hint="Give the run of this dataset's queries, or another --split",
        )
    return run
