"""`dsi train`: trains an index on a dataset."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from data_prep.errors import InputError, command_line
from data_prep.files import read_json
from data_prep.marks import ADVANCED, Advanced, Count
from data_prep.passages import PassageOptions
from data_prep.sources.base import SourceOptions
from docids.kinds import KINDS
from dsi.command_line.arguments import SPREAD
from dsi.command_line.command_report import Report, TableReport, heading, shown
from dsi.indexing.build import train_index
from dsi.indexing.options import TrainingOptions

if TYPE_CHECKING:
    from dsi.evaluation.self_check import SelfCheck
    from dsi.index_folder.versions import Manifest
    from dsi.indexing.dry_run import Plan

_OPTIONS = TrainingOptions()
_SOURCE = SourceOptions()
_PASSAGES = PassageOptions()
_FAILED = (
    "warning: this training has failed: the index finds hardly any of its documents. "
    "Train longer (--loop.steps)"
)


def train(
    dataset: Path,
    *,
    out: Path,
    memory_folder: Advanced[Path | None] = None,
    deepspeed: Path | None = None,
    dry_run: bool = False,
    documents: Advanced[Count | None] = None,
    options: Annotated[TrainingOptions, SPREAD] = _OPTIONS,
    source: Annotated[SourceOptions, SPREAD, ADVANCED] = _SOURCE,
    passages: Annotated[PassageOptions, SPREAD, ADVANCED] = _PASSAGES,
) -> Report:
    """Trains an index. If interrupted, run it again to resume.

    Missing pseudo-queries, identifiers and vocabulary are created first. The same dataset, options
    and seed give the same index.

    Args:
        dataset: Dataset folder, or any source that `dsi prepare` recognizes.
        out: Index folder.
        memory_folder: Generative memory to store with the index; default: that of the dataset.
        deepspeed: DeepSpeed configuration, for processes started by torchrun (configs/deepspeed).
        dry_run: Check everything, print the steps and the memory they need, and stop.
        documents: Number of documents to assume in a dry run without the dataset.
        options: All that decides an index besides the dataset.
        source: Column names and further files, if DATASET is not prepared yet.
        passages: Length of passages, if DATASET is not prepared yet.
    """
    from dsi.indexing.start import refuse_unused

    docids_folder = options.given_docids
    refuse_unused(options, docids_folder)
    if documents is not None and not dry_run:
        raise InputError("--documents has no effect without --dry-run", hint="Omit it")
    with _prepared_dataset(dataset, source, passages, dry_run) as folder:
        if dry_run:
            from dsi.indexing.dry_run import plan_training

            return _planned(plan_training(folder, options, docids_folder, documents, out))
        from data_prep.dataset import Dataset
        from dsi.distributed.processes import Processes

        opened = Dataset.open(folder)
        finished = (out / "live").is_file()
        manifest = train_index(opened, out, options, docids_folder, memory_folder, deepspeed)
        checked = Processes().in_main_process(lambda: _check(out))
    if finished:
        return _nothing_to_do(out, manifest, checked)
    metrics = dict(manifest.metrics)
    best = metrics.pop("best", None)
    start = metrics.pop("start", None)
    lexical = metrics.pop("lexical", None)
    identifiers = metrics.pop("identifiers", None) or {}
    rows = [("documents", manifest.documents), *metrics.items()]
    if lexical:
        rows += [(f"lexical layer, {name}", value) for name, value in lexical.items()]
    if purity := identifiers.get("neighbor_hit_rate"):
        rows += [
            ("neighbors with the same first codes", ", ".join(map(shown, purity))),
            ("Gini of code use", identifiers["gini"]),
        ]
    if start:
        rows += [
            (f"dev {heading(name)} before training", value)
            for name, value in start.items()
            if name != "step"
        ]
    if best is not None:
        rows += [(f"best dev {heading(name)}", value) for name, value in best.items()]
    closing = [
        *_warm_up(options, manifest),
        f"to search it: {command_line('search', out, 'your query')}",
        _evaluate_command(out, dataset if folder == dataset else None, list(opened.info.qrels)),
    ]
    if checked is not None:
        rows.append(("finds its own documents", str(checked)))
        closing += [_failed(options, docids_folder)] if checked.failed else []
    return TableReport(
        data=_facts(out, manifest, checked),
        title=f"index of {manifest.dataset['name']}",
        columns=("", ""),
        rows=rows,
        closing=closing,
    )


@contextlib.contextmanager
def _prepared_dataset(
    data: Path, source: SourceOptions, passages: PassageOptions, dry_run: bool
) -> Iterator[Path]:
    """Yields the folder of a dataset: the given one, or one prepared from the given source.

    Raises:
        InputError: It cannot be opened or read, or several processes would each read it.
    """
    from dsi.given_documents import dataset_of

    is_dataset = (data / "dataset.json").is_file()
    if is_dataset and passages != PassageOptions():
        raise InputError(
            "--passages has no effect for a dataset, which has already been prepared", where=data
        )
    options_given = source != SourceOptions() or passages != PassageOptions()
    if dry_run and not is_dataset and not data.exists() and not options_given:
        yield data  # the plan does not need it
        return
    if not is_dataset and os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError(
            "training in several processes needs a dataset",
            where=data,
            hint=f"Create one first: {command_line('prepare', data, '--out', 'DATASET')}",
        )
    with tempfile.TemporaryDirectory() as scratch:
        dataset = dataset_of(os.fspath(data), Path(scratch) / "dataset", source, passages)
        yield dataset.path


def _warm_up(options: TrainingOptions, manifest: Manifest) -> list[str]:
    """Warns if the learning rate has hardly reached its peak at the end of training."""
    steps, warm_up = manifest.metrics.get("steps") or 0, options.optimizer.warmup
    if not 0 < steps <= warm_up:
        return []
    return [
        f"warning: the warm-up ({warm_up} steps) is as long as the training ({steps} steps): lower "
        "--optimizer.warmup, or raise --loop.steps"
    ]


def _facts(out: Path, manifest: Manifest, checked: SelfCheck | None) -> dict[str, Any]:
    """Returns the facts about an index for `--json`."""
    return {
        "index": str(out),
        "version": manifest.version,
        "documents": manifest.documents,
        **manifest.metrics,
        "self_check": None if checked is None else asdict(checked),
    }


def _nothing_to_do(out: Path, manifest: Manifest, checked: SelfCheck | None) -> Report:
    """Returns the message for an existing index of this dataset and these options."""
    return TableReport(
        data=_facts(out, manifest, checked),
        title=f"{out}: already trained, nothing to do",
        columns=("", ""),
        rows=[("live version", manifest.version), ("documents", manifest.documents)],
        closing=(f"to search it: {command_line('search', out, 'your query')}",),
    )


def _failed(options: TrainingOptions, docids_folder: Path | None) -> str:
    """Returns the message that a training has failed, with suggestions."""
    kind = options.docids
    if docids_folder is not None:
        kind = read_json(docids_folder / "docids.json")["kind"]
    if KINDS[kind].uses_content:
        return _FAILED
    return f"{_FAILED}, or use identifiers that depend on content (--docids semantic)"


def _check(out: Path) -> SelfCheck | None:
    from dsi.evaluation.self_check import run_self_check

    return run_self_check(out)


def _evaluate_command(out: Path, dataset: Path | None, splits: list[str]) -> str:
    """Returns the next command to evaluate the index."""
    split_name = next((split for split in ("test", "dev") if split in splits), None)
    if split_name is not None and dataset is not None:
        return f"to evaluate it: {command_line('evaluate', out, dataset, '--split', split_name)}"
    return (
        "to evaluate it: prepare the documents with judged queries (dsi prepare SOURCE --out "
        "DATASET --queries FILE --test-qrels FILE), then "
        f"{command_line('evaluate', out, 'DATASET')}"
    )


def _planned(plan: Plan) -> Report:
    gib = None if plan.memory is None else plan.memory / 2**30
    rows = [
        ("documents", plan.documents),
        ("parameters", plan.parameters),
        ("GiB for weights, gradients and optimizer, per process", gib),
        ("examples", plan.examples),
        *((f"fraction of {task}", share) for task, share in plan.proportions.items()),
    ]
    return TableReport(
        data=asdict(plan), title="dry run", columns=("", ""), rows=rows, closing=plan.steps
    )
