"""The continual-indexing protocol: D0, then increments, one index for each strategy and seed.

    OUT/base/seed0/              an index of D0, trained once for all strategies
    OUT/indexes/STRATEGY-seed0/  updated with one increment after another
    OUT/results/STRATEGY-seed0/  d0.json, d1.json, ...: results after each update
    OUT/curves/STRATEGY-seed0/   d1.jsonl, ...: results during each update

Every step stores its result before the next one begins, so that a new run resumes where the last
one stopped. New corpora have no labeled training queries. After every update, the test queries of
every corpus are run against the whole index, without telling it which corpus a query belongs to.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.dataset import Dataset
from data_prep.descriptor_lock import only_writer
from data_prep.errors import InputError
from data_prep.files import read_json, replacing_folder, write_json
from data_prep.former_names import with_current_names
from dsi.continual.callback import EvaluationCallback
from dsi.continual.evaluation_queries import EvaluationQueries, measure_with_ranks
from dsi.continual.increments import open_split, read_split
from dsi.continual.options import ComparisonOptions
from dsi.index_folder import versions
from dsi.index_folder.version_files import link_or_copy
from dsi.indexing.options import TrainingOptions
from dsi.updating.options import UpdateOptions
from dsi.updating.strategy_parsing import with_changes
from dsi.updating.update import update_index

_CLAIM = "continual.json"
"""File that identifies the comparison that a folder belongs to."""


@dataclass(frozen=True, kw_only=True)
class ContinualOptions(ComparisonOptions):
    """Options of a comparison of strategies.

    Attributes:
        strategies: As `with_changes` reads them.
        train: How the index of D0 is trained.
        update: Options that all strategies share.
    """

    strategies: tuple[str, ...]
    train: TrainingOptions = field(default_factory=TrainingOptions)
    update: UpdateOptions = field(default_factory=UpdateOptions)

    def conflicts(self) -> None:
        """Refuses strategies that do not exist, or are named twice; and such seeds."""
        super().conflicts()
        if not self.strategies:
            raise InputError("--strategies is empty")
        for name in self.strategies:
            with_changes(self.update, name)
        if len(set(self.strategies)) < len(self.strategies):
            raise InputError("--strategies contains the same strategy twice")
        if self.update.strategy != UpdateOptions().strategy:
            raise InputError("--update.strategy has no effect here", hint="Use --strategies")


def run_continual(split: Path, out: Path, options: ContinualOptions) -> dict[str, Any]:
    """Runs every strategy with every seed over all increments; resumes after an interruption.

    Args:
        split: The folder of a split dataset.
        out: Folder of indexes and results.
        options: Options of the comparison.

    Returns:
        The output of `summarize` for all results.

    Raises:
        InputError: A corpus has no test query, another process writes to `out`, or it holds results
            of another split or with other options.
    """
    from dsi.continual.summary import summarize

    corpora = open_split(split)
    for corpus in corpora:
        EvaluationQueries.of(corpus)  # before anything is trained
    with only_writer(out):
        claim(out, split, options)
        with _freed_if_refused(out):
            for seed in options.each_seed:
                base, first = train_base(corpora, out, options, seed)
                for strategy in options.strategies:
                    run_strategy(corpora, out, options, strategy, seed, base, first)
        return summarize(out, options.strategies, options.each_seed)


@contextlib.contextmanager
def _freed_if_refused(out: Path) -> Iterator[None]:
    """Frees the folder if the first training is refused, so that the corrected command runs."""
    try:
        yield
    except InputError:
        if all(path.is_dir() or path == out / _CLAIM for path in out.rglob("*")):
            shutil.rmtree(out / "base", ignore_errors=True)
            (out / _CLAIM).unlink(missing_ok=True)
        raise


def claim(out: Path, split: Path, options: ContinualOptions) -> None:
    """Claims a folder for this comparison.

    Raises:
        InputError: It holds results of another split or with other options.
    """
    requested = json.loads(
        json.dumps(
            {
                "split": read_split(split),
                "interval": options.interval,
                "curve_queries": options.curve_queries,
                "beams": options.beams,
                "train": dataclasses.asdict(options.train),
                "update": dataclasses.asdict(options.update),
            }
        )
    )
    file = out / _CLAIM
    if not file.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise InputError(
                "this folder holds other files", where=out, hint="Choose another --out"
            )
        write_json(file, requested)
    elif with_current_names(read_json(file)) != requested:
        raise InputError(
            "this folder has results of another split or of other options",
            where=out,
            hint="Choose another --out; only strategies and seeds can be added to existing results",
        )


def train_base(
    corpora: Sequence[Dataset], out: Path, options: ContinualOptions, seed: int
) -> tuple[Path, dict[str, Any]]:
    """Trains the index of D0 that all strategies start from, and measures it.

    Args:
        corpora: D0 and the increments.
        out: Folder of indexes and results.
        options: Options of the comparison.
        seed: Random seed of the training.

    Returns:
        The folder of the index, and its results.
    """
    from dsi.indexing.build import train_index

    base = out / "base" / f"seed{seed}"
    file = out / "base" / f"seed{seed}.json"
    began = time.perf_counter()
    manifest = train_index(corpora[0], base, dataclasses.replace(options.train, seed=seed))
    if not file.is_file():
        seconds = time.perf_counter() - began
        measured, ranks = measure_with_ranks(
            base, [EvaluationQueries.of(corpora[0])], options.beams
        )
        write_json(
            file,
            {
                "corpus": 0,
                "steps": manifest.metrics["steps"],
                "updates": manifest.metrics["examples"],
                "seconds": seconds,
                "performance": measured,
                "ranks": ranks,
            },
        )
    return base, read_json(file)


def run_strategy(
    corpora: Sequence[Dataset],
    out: Path,
    options: ContinualOptions,
    strategy: str,
    seed: int,
    base: Path,
    first: dict[str, Any],
) -> None:
    """Updates one index with all increments, and evaluates it after each.

    Args:
        corpora: D0 and the increments.
        out: Folder of indexes and results; results are written after each increment.
        options: Options that all strategies share.
        strategy: As `with_changes` reads it.
        seed: Random seed of the updates.
        base: The index of D0.
        first: Its results.
    """
    name = f"{strategy}-seed{seed}"
    results, index = out / "results" / name, out / "indexes" / name
    last = results / f"d{len(corpora) - 1}.json"
    if last.is_file():
        shutil.rmtree(index, ignore_errors=True)  # a killed run left it
        return
    if not index.is_dir():
        with replacing_folder(index) as fresh:
            shutil.copytree(
                base,
                fresh,
                copy_function=link_or_copy,
                dirs_exist_ok=True,
                ignore=lambda folder, _: ["lock"] if Path(folder) == base else [],
            )
    write_json(results / "d0.json", first)
    evaluation_queries = [EvaluationQueries.of(corpus) for corpus in corpora]
    strategy_options = dataclasses.replace(with_changes(options.update, strategy), seed=seed)
    for number in range(1, len(corpora)):
        file = results / f"d{number}.json"
        if file.is_file():
            continue
        callbacks = []
        curve = out / "curves" / name / f"d{number}.jsonl"
        if options.interval:
            sampled = [
                some.sample(options.curve_queries, seed)
                for some in evaluation_queries[: number + 1]
            ]
            callbacks = [EvaluationCallback(sampled, curve, options.interval, options.beams)]
        began = time.perf_counter()
        outcome = update_index(index, corpora[number], strategy_options, callbacks=callbacks)
        seconds = time.perf_counter() - began
        watched = sum(callback.seconds for callback in callbacks)
        metrics = outcome.manifest.metrics
        performance, ranks = measure_with_ranks(
            index, evaluation_queries[: number + 1], options.beams
        )
        value = {
            "corpus": number,
            "steps": metrics["steps"],
            "updates": metrics.get("examples", 0),
            "seconds": seconds - watched,
            "timing": dict(outcome.timing),
            "bytes kept a document": metrics.get("bytes kept a document"),
            "performance": performance,
            "ranks": ranks,
        }
        write_json(file, value)
        for older in versions.names(index):
            if older != versions.live(index):
                shutil.rmtree(versions.folder(index, older))
        _release_freed_memory()
    shutil.rmtree(index, ignore_errors=True)


def _release_freed_memory() -> None:
    """Returns freed memory to the system, if the C library supports that (glibc does).

    The library keeps free memory between blocks in use, and a process that trains one model after
    another would grow with each of them.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
