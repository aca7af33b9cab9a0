"""From a Dataset to an index: runs missing steps, trains, writes the version."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.dataset import Dataset
from data_prep.errors import InputError
from data_prep.files import is_leftover, read_json, remove_folder, write_json
from data_prep.former_names import with_current_names
from data_prep.progress import note
from dsi.distributed.processes import Processes
from dsi.generation.generative_memory import IN_VERSION, GenerativeMemory
from dsi.index_folder import versions
from dsi.index_folder.stored_corpus import store_corpus
from dsi.index_folder.versions import Manifest
from dsi.index_folder.working_folder import remove_refused, removed_if_refused
from dsi.indexing.assembly import make_training_run, without_training
from dsi.indexing.options import TrainingOptions
from dsi.indexing.preparation import (
    LEARNING,
    LEXICAL,
    TEACHER_SCORES,
    VECTORS,
    TrainingInputs,
    check_codebooks,
    prepare,
)
from dsi.indexing.start import resolve_start

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from docids.assignment import Assignment

_CLAIM = "training.json"
"""File in the working folder that identifies its run."""


def train_index(
    dataset: Dataset,
    out: Path,
    options: TrainingOptions,
    docids_folder: Path | None = None,
    memory_folder: Path | None = None,
    deepspeed: Path | None = None,
) -> Manifest:
    """Trains an index; run again after an interruption, it resumes.

    Under `torchrun`, the first process writes all files.

    Args:
        dataset: The corpus and its queries.
        out: The index folder. Its `training/` holds work in progress and is removed when the first
            version is live.
        options: Training options.
        docids_folder: Existing identifiers, written by `dsi docids`; None to assign those of
            `options.docids`.
        memory_folder: A generative memory to store with the index; None for that of the dataset, if
            it has one.
        deepspeed: A DeepSpeed configuration; None for DDP. It affects how the work is distributed,
            not what is computed: a run may resume with another one, or without.

    Returns:
        The manifest of the version that is now live.

    Raises:
        InputError: The folder holds an index or a run with other options, an option does not fit
            the data, or the loss is not finite.
    """
    options = resolve_start(options, docids_folder)
    wanted = _fingerprint(dataset, options, docids_folder)
    memory = GenerativeMemory.find(dataset, memory_folder)
    check_codebooks(options, docids_folder)
    zero = None
    if deepspeed is not None:
        from dsi.distributed.deepspeed import read_zero_config

        zero = read_zero_config(deepspeed)
    if out.exists() and not out.is_dir():
        raise InputError("this is a file, not a folder", where=out, hint="Choose another --out")
    processes = Processes()
    finished = processes.main_process_first(lambda: _finished(out, wanted))
    if finished is not None:
        return finished
    work = out / "training"
    with contextlib.ExitStack() as stack:
        if processes.rank == 0 and not out.exists():
            stack.enter_context(_removed_if_empty(out))
        writer = processes.in_main_process(lambda: stack.enter_context(versions.lock(out)))
        # A complete version that was not yet live because of a kill is now live.
        finished = processes.main_process_first(lambda: _finished(out, wanted))
        if finished is not None:
            return finished
        processes.in_main_process(lambda: _claim(work, wanted))
        if processes.rank == 0:
            stack.enter_context(removed_if_refused(work, (LEARNING, TEACHER_SCORES, VECTORS)))
        prepared = processes.main_process_first(
            lambda: prepare(dataset, work, options, docids_folder)
        )
        if options.loop.total:
            run = processes.together(lambda: make_training_run(dataset, work, options, prepared))
            run = replace(run, deepspeed=zero)
            from dsi.training.loop import train_loop
            from dsi.training.optimization.lora import merge_adapters

            reached = train_loop(run)
            model = run.model
            merge_adapters(model)
        else:
            model, reached = processes.main_process_first(
                lambda: without_training(dataset, work, options, prepared)
            )
        if prepared.lexical is not None:
            reached["lexical"] = prepared.lexical.outcome

        def write() -> None:
            assert writer is not None
            with writer.version() as fresh:
                _write(fresh, dataset, options, prepared, model, reached, wanted)
                if prepared.lexical is not None:
                    shutil.copytree(work / LEXICAL, fresh / LEXICAL)
                _keep_logs(work, fresh / "log")
                if memory is not None:
                    shutil.copytree(memory, fresh / IN_VERSION)
            remove_folder(work)

        processes.in_main_process(write)
    return Manifest.load(versions.folder(out, versions.live(out)))


@contextlib.contextmanager
def _removed_if_empty(out: Path) -> Iterator[None]:
    """Removes the index folder that a refused training created, if it is empty."""
    try:
        yield
    except InputError:
        if not (out / "live").is_file() and {entry.name for entry in out.iterdir()} == {"lock"}:
            (out / "lock").unlink()
            out.rmdir()
        raise


def _fingerprint(
    dataset: Dataset, options: TrainingOptions, docids_folder: Path | None
) -> dict[str, Any]:
    """Everything that determines the result: equal fingerprints give equal weights."""
    given = None if docids_folder is None else read_json(docids_folder / "docids.json")
    return {
        "dataset": {"name": dataset.info.name, "content_hash": dataset.info.content_hash},
        "options": asdict(options),
        "given_docids": given,
    }


def _difference(made: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Describes how an existing training differs from the requested one."""
    if made.get("dataset") != wanted["dataset"]:
        return f"another dataset ({made.get('dataset', {}).get('name')})"
    here, asked = (_flat(each.get("options", {})) for each in (made, wanted))
    for name, value in asked.items():
        if here.get(name) != value:
            return f"other options (--{name} {here.get(name)} there, {value} here)"
    return "other identifiers"


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns options by full name, as read back from JSON."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat


def _finished(out: Path, wanted: Mapping[str, Any]) -> Manifest | None:
    """Returns the live manifest if this very training is already done.

    Raises:
        InputError: The folder holds an index with other options, or something else.
    """
    manifest = _existing(out, wanted)
    if manifest is not None:
        # Left by a training that was killed before its final cleanup. Without a claim, it is a
        # folder of the user.
        work = out / "training"
        if (work / _CLAIM).is_file() or (work.is_dir() and all(map(is_leftover, os.listdir(work)))):
            remove_folder(work)
        versions.clean_up(out)
        if manifest.parent is not None:
            note(
                f"{out}: this training is done; the index has changed since, and version "
                f"{manifest.version} is live"
            )
    return manifest


def refuse_conflicts(
    dataset: Dataset, out: Path, options: TrainingOptions, docids_folder: Path | None = None
) -> None:
    """Performs the folder checks of `train_index`, without changing anything.

    Raises:
        InputError: The folder is a file, or holds an index or a run with other options, or
            something else.
    """
    if out.exists() and not out.is_dir():
        raise InputError("this is a file, not a folder", where=out, hint="Choose another --out")
    wanted = _fingerprint(dataset, resolve_start(options, docids_folder), docids_folder)
    if _existing(out, wanted) is None and (out / "training" / _CLAIM).is_file():
        _refuse_other_claim(out / "training", wanted)


def _existing(out: Path, wanted: Mapping[str, Any]) -> Manifest | None:
    """Returns the live manifest if this very training is already done."""
    work = out / "training"
    if (out / "live").is_file():
        manifest = Manifest.load(versions.folder(out, versions.live(out)))
        # Later updates are recorded next to the configuration of the first version.
        stored = with_current_names(manifest.configuration)
        made = {name: part for name, part in stored.items() if name != "update"}
        if made != wanted:
            raise InputError(
                f"this folder has an index of {_difference(made, wanted)}",
                where=out,
                hint="Choose another --out, or remove this folder",
            )
        return manifest
    if out.is_dir() and not (work / _CLAIM).is_file():
        entries = {entry.name for entry in out.iterdir() if not is_leftover(entry.name)}
        inside = [entry.name for entry in work.iterdir()] if work.is_dir() else []
        if not entries <= {"lock", "versions", "training"} or not all(map(is_leftover, inside)):
            raise InputError(
                "this folder holds files that are not an index",
                where=out,
                hint="Choose another --out; this folder was not changed",
            )
    return None


def _claim(work: Path, wanted: Mapping[str, Any]) -> None:
    """Claims the working folder for this run.

    Raises:
        InputError: The folder holds an interrupted run with other options.
    """
    file = work / _CLAIM
    stored = with_current_names(read_json(file)) if file.is_file() else None
    if stored is None or (stored != wanted and remove_refused(work)):
        write_json(file, wanted)
    _refuse_other_claim(work, wanted)


def _refuse_other_claim(work: Path, wanted: Mapping[str, Any]) -> None:
    file = work / _CLAIM
    stored = with_current_names(read_json(file))
    if stored != wanted:
        raise InputError(
            f"a training run of {_difference(stored, wanted)} was interrupted here",
            where=work,
            hint="Run it again with its own options, remove this folder, or choose another --out",
        )


def _keep_logs(work: Path, folder: Path) -> None:
    """Copies the training logs into the version: curves and evaluations."""
    folder.mkdir()
    shutil.copytree(work / "tensorboard", folder / "tensorboard")
    evaluations = work / "evaluations.jsonl"
    if evaluations.is_file():
        shutil.copy(evaluations, folder)
    if (work / "wandb").is_dir():
        # An offline run is uploaded later, from here. Its symbolic links are not needed.
        shutil.copytree(work / "wandb", folder / "wandb", ignore=_links)


def _links(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_symlink()]


def _identifier_figures(assignment: Assignment) -> dict[str, Any]:
    """Returns the figures of the identifiers that predict retrieval, if they were measured."""
    measured = assignment.measured or {}
    names = [name for name in ("neighbor_hit_rate", "gini") if name in measured]
    return {"identifiers": {name: measured[name] for name in names}} if names else {}


def _write(
    folder: Path,
    dataset: Dataset,
    options: TrainingOptions,
    prepared: TrainingInputs,
    model: PreTrainedModel,
    reached: Mapping[str, Any],
    configuration: Mapping[str, Any],
) -> None:
    """Writes a version, with the state that later versions need to assign new identifiers."""
    from dsi.index import write_parts

    table = prepared.assignment.table
    titles = prepared.documents.titles
    write_parts(folder, model=model, text=prepared.text, table=table, titles=titles)
    prepared.assignment.save(folder / "assignment")
    store_corpus(folder, dataset, prepared.generator)
    Manifest(
        documents=len(table),
        added=len(table),
        origin=f"trained on {dataset.info.name}",
        dataset=dataset.info.origin,
        configuration=configuration,
        metrics={**reached, **_identifier_figures(prepared.assignment)},
        query_length=options.mix.query_length,
        beams=options.loop.beams,
        score=options.loop.score,
    ).save(folder)
