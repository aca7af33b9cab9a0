"""From new documents to a new version: what `dsi update` does.

Work in progress is in INDEX/updating/. A killed update leaves this folder, and the same command,
run again, resumes from it. The previous version stays live until the new one is complete.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.dataset import Dataset, ExampleCounter
from data_prep.errors import InputError
from data_prep.files import (
    read_json,
    remove_folder,
    write_json,
)
from docids.assignment import Assignment
from dsi.backbones.backbone import CONFIG
from dsi.distributed.processes import Processes
from dsi.evaluation.probe import Probe
from dsi.generation.generative_memory import IN_VERSION
from dsi.index_folder import versions
from dsi.index_folder.stored_corpus import (
    FOLDER,
    Difference,
)
from dsi.index_folder.version_files import link_or_copy
from dsi.index_folder.versions import Manifest
from dsi.index_folder.working_folder import removed_if_refused
from dsi.indexing.preparation import LEXICAL
from dsi.text_encoders.stored_text_encoder import open_text_encoder
from dsi.updating.first_training import training_options
from dsi.updating.inherited_options import not_inherited
from dsi.updating.options import UpdateOptions
from dsi.updating.parent import check_parent
from dsi.updating.plan import Update
from dsi.updating.strategies import parse_strategies
from dsi.updating.strategies.base import (
    Outcome,
    Standalone,
    refuse_other_heads,
    refuse_other_states,
)
from dsi.updating.strategy_parsing import resolved
from dsi.updating.strategy_state import write_strategy_state
from dsi.updating.workspace import (
    CLAIM,
    NEW,
    WORK,
    abandon,
    clean_up,
    open_lexical,
    open_stored_corpus,
    open_update,
    prepare_parts,
    removed_unless_begun,
)

if TYPE_CHECKING:
    from dsi.updating.training import Callback


@dataclass(frozen=True)
class Updated:
    """The result of an update.

    Attributes:
        manifest: Manifest of the version that is now live.
        difference: Documents that are new, changed or unchanged; None if the same update had
            already been done.
        wrote: Whether a new version was written.
        warnings: Warnings for the user.
        timing: Durations of parts, if the strategy reports them.
        not_inherited: Features of the first training that this update did not use.
        dropped: Reason -> new documents, queries and judgments that were skipped.
    """

    manifest: Manifest
    difference: Difference | None
    wrote: bool
    warnings: list[str] = field(default_factory=list)
    timing: Mapping[str, Any] = field(default_factory=dict)
    not_inherited: list[str] = field(default_factory=list)
    dropped: Mapping[str, ExampleCounter] = field(default_factory=dict)


def update_index(
    index: Path,
    new: Dataset | Callable[[Path], Dataset],
    options: UpdateOptions,
    *,
    old: Dataset | None = None,
    callbacks: Sequence[Callback] = (),
) -> Updated:
    """Adds documents to an index as a new version; run again after an interruption, it continues.

    Documents already in the index are skipped; those with a changed text keep their identifier.

    Args:
        index: The folder of the index.
        new: The documents, with queries if there are any; or a function that writes them into a
            folder.
        options: Options of the update.
        old: The dataset that the index was trained on, for an index that does not store its corpus.
        callbacks: Callbacks that observe the model during training.

    Raises:
        InputError: Another command writes to the index, another update was interrupted here, an
            option does not fit, or the new version loses more than the options allow.
    """
    newest = versions.folder(index, versions.live(index))  # the lock would create a folder
    options = resolved(options, training_options(Manifest.load(newest)))
    strategies = parse_strategies(options.strategy)
    processes = Processes()
    work = index / WORK
    dropped: dict[str, ExampleCounter] = {}
    with contextlib.ExitStack() as stack:
        writer = processes.in_main_process(lambda: stack.enter_context(versions.lock(index)))

        def begin() -> Updated | None:
            assert writer is not None
            done = clean_up(index, work)
            work.mkdir(exist_ok=True)
            with removed_unless_begun(work):
                given = _dataset(new, work)
                dropped.update(given.info.dropped)
                return _begin(writer, given, options, old, done)

        done = processes.in_main_process(begin)
        # The other processes read what the first has found from disk.
        if not processes.main_process_first(lambda: (work / CLAIM).is_file()):
            live = Manifest.load(versions.folder(index, versions.live(index)))
            return replace(done or Updated(live, None, False), dropped=dropped)
        if processes.rank == 0:
            stack.enter_context(removed_if_refused(work))
        update = processes.main_process_first(lambda: open_update(index, options))
        if isinstance(strategies[0], Standalone):
            outcome = strategies[0].run(update, work)
        else:
            from dsi.updating.training import train

            outcome = train(update, strategies, work, callbacks)

        def write() -> list[str]:
            assert writer is not None
            return _finish(writer, work, update, outcome)

        warnings = processes.in_main_process(write) or []
    manifest = Manifest.load(versions.folder(index, versions.live(index)))
    difference = _difference(manifest)
    missing = not_inherited(update.training, [strategy.name for strategy in strategies])
    return Updated(manifest, difference, True, warnings, outcome.timing, missing, dropped)


def _dataset(new: Dataset | Callable[[Path], Dataset], work: Path) -> Dataset:
    return new if isinstance(new, Dataset) else new(work / NEW)


def _difference(manifest: Manifest) -> Difference:
    return Difference(**manifest.configuration["update"]["documents"])


def _begin(
    writer: versions.Writer,
    new: Dataset,
    options: UpdateOptions,
    old: Dataset | None,
    done: Mapping[str, Any] | None,
) -> Updated | None:
    """Claims the working folder and writes the inputs of the update into it.

    Args:
        writer: Writes the index.
        new: The documents.
        options: Options of the update.
        old: The dataset that the index was trained on, if the user gave it.
        done: The claim of an update that was complete except for the cleanup.

    Returns:
        The result if nothing is left to do, in which case there is no claim.
    """
    index = writer.index
    work = index / WORK
    live = versions.live(index)
    parent = versions.folder(index, live)
    manifest = Manifest.load(parent)
    strategies = parse_strategies(options.strategy)
    refuse_other_heads(strategies, training_options(manifest).model.head)
    refuse_other_states(strategies, read_json(parent / "model" / CONFIG))
    _refuse_other_passages(new, manifest)
    claim = {
        "parent": live,
        "options": json.loads(json.dumps(asdict(options))),
        "dataset": new.info.origin,
    }
    if done is not None and done == {**claim, "parent": done["parent"]}:
        return Updated(manifest, _difference(manifest), False)
    if (work / CLAIM).is_file() and read_json(work / CLAIM) != claim:
        abandon(work, claim)
    check_parent(parent, manifest)
    if not (work / CLAIM).is_file():
        corpus = open_stored_corpus(parent, work, old, manifest)
        difference = Difference.between(
            corpus.digests, new.documents(), passages=manifest.passages is not None
        )
        if not difference.new:
            return Updated(manifest, difference, False)
        prepare_parts(work, parent, corpus, new, difference, options, manifest)
        write_json(work / CLAIM, claim)
    return None


def _refuse_other_passages(new: Dataset, manifest: Manifest) -> None:
    """Refuses documents whose passages are cut differently from those of the index."""
    if new.info.passages != manifest.passages:
        of_index, of_new = (
            f"--passages {cut['passages']} --overlap {cut['overlap']}" if cut else "no --passages"
            for cut in (manifest.passages, new.info.passages)
        )
        raise InputError(
            f"its documents are split with {of_new}, but those of the index with {of_index}",
            where=new.path,
            hint="Prepare it with the same options as the documents of the index",
        )


def _finish(writer: versions.Writer, work: Path, update: Update, outcome: Outcome) -> list[str]:
    """Measures the loss on old documents, and writes the version unless it is too large."""
    options, manifest = update.options, update.manifest
    measured = _measure(work, update, outcome)
    stored = read_json(work / "difference.json")
    warnings = [*_quality_warnings(options, measured, work), *_outgrown(update, outcome)]
    table = update.assignment.table
    claim = read_json(work / CLAIM)
    parts = ("added", "changed", "unchanged", "removed")
    documents = {name: stored.get(name, []) for name in parts}
    with writer.version(claim["parent"]) as fresh:
        from dsi.index import write_parts

        titles = update.documents.titles
        write_parts(fresh, model=outcome.model, text=outcome.text, table=table, titles=titles)
        update.assignment.save(fresh / "assignment")
        shutil.copytree(work / FOLDER, fresh / FOLDER)
        if (work / LEXICAL).is_dir():
            shutil.copytree(work / LEXICAL, fresh / LEXICAL)
        write_strategy_state(
            fresh, outcome.strategy_state, None if outcome.afresh else update.parent
        )
        if (update.parent / IN_VERSION).is_dir():
            shutil.copytree(
                update.parent / IN_VERSION, fresh / IN_VERSION, copy_function=link_or_copy
            )
        if (work / "tensorboard").is_dir():
            shutil.copytree(work / "tensorboard", fresh / "log" / "tensorboard")
        Manifest(
            documents=len(table.live),
            added=len(stored["added"]),
            removed=len(documents["removed"]),
            origin=f"{stored['name']} by {options.strategy}",
            # The index keeps the name of its first dataset; the hash covers the new documents.
            dataset={**claim["dataset"], **_name_of(manifest)},
            configuration={
                **manifest.configuration,
                "update": {"claim": claim, "documents": documents},
            },
            metrics={**outcome.reached, **({"probe": measured} if measured else {})},
            query_length=manifest.query_length,
            beams=manifest.beams,
            score=manifest.score,
        ).save(fresh)
    remove_folder(work)
    return warnings


def _name_of(manifest: Manifest) -> dict[str, Any]:
    return {"name": manifest.dataset["name"]} if "name" in manifest.dataset else {}


def _measure(work: Path, update: Update, outcome: Outcome) -> dict[str, Any]:
    """Returns the measures on the probe queries before and after, and the points lost."""
    probe = Probe.from_json(read_json(work / "probe.json"))
    if not probe.texts:
        return {}
    manifest = update.manifest
    how = (manifest.query_length, manifest.beams, manifest.score)
    before = probe.measure(
        update.load_parent(),
        open_text_encoder(update.parent / "text"),
        Assignment.open(update.parent / "assignment").table,
        *how,
        open_lexical(update.parent),
    )
    after = probe.measure(
        outcome.model, outcome.text, update.assignment.table, *how, open_lexical(work)
    )
    lost = 100 * (before["Success@10"] - after["Success@10"])
    return {
        "source": probe.source,
        "queries": len(probe.texts),
        "before": before,
        "after": after,
        "points lost": lost,
    }


def _outgrown(update: Update, outcome: Outcome) -> list[str]:
    """Returns a warning for each matrix that has outgrown its reserve."""
    from dsi.backbones.backbone import text_rows

    if not update.training.reserve:
        return []
    before = Assignment.open(update.parent / "assignment").table.alphabet_size
    after = update.assignment.table.alphabet_size
    words, known = outcome.text.vocabulary_size, update.known_tokens
    grown = {
        f"codes, from {before:,} to {after:,}": after > before,
        f"words, from {known:,} to {words:,}": words > known and text_rows(outcome.model) == words,
    }
    return [
        f"The reserve is used up: this version has more {what}. Exports of earlier versions have "
        "weights of other shapes"
        for what, is_so in grown.items()
        if is_so
    ]


def _quality_warnings(options: UpdateOptions, measured: Mapping[str, Any], work: Path) -> list[str]:
    """Returns warnings.

    Raises:
        InputError: The loss exceeds the limit.
    """
    if not measured:
        return ["There were no probe queries: what old documents have lost was not measured."]
    lost = measured["points lost"]
    before, after = measured["before"]["Success@10"], measured["after"]["Success@10"]
    said = (
        f"Hits@10 of old documents fell from {100 * before:.1f} to {100 * after:.1f} on "
        f"{measured['queries']} {measured['source']} queries"
    )
    if options.refuse_loss is not None and lost > options.refuse_loss:
        # Work that would be refused again is not kept.
        remove_folder(work)
        raise InputError(
            f"{said}, more than --refuse-loss {options.refuse_loss:g} points: the previous "
            "version stays live",
            hint="Use another --strategy, or fewer --steps",
        )
    return [f"{said}. dsi rollback goes back"] if lost > options.warn_loss else []
