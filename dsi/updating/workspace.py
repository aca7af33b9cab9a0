"""The working folder of an update, INDEX/updating/: its claim and the inputs of training.

A killed update leaves the folder, and the same command, run again, resumes from it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep import arrow
from data_prep.dataset import Dataset, Document
from data_prep.errors import InputError
from data_prep.files import (
    read_json,
    remove_folder,
    replacing_folder,
    write_json,
)
from data_prep.generate import provenance
from data_prep.generators import GENERATORS, GeneratorOptions
from data_prep.progress import note, track
from docids.assignment import Assignment
from docids.kinds import KINDS
from dsi.evaluation.probe import Probe
from dsi.generation.generative_memory import IN_VERSION, generator_options
from dsi.index_folder import versions
from dsi.index_folder.stored_corpus import (
    FOLDER,
    Difference,
    StoredCorpus,
    StoredCorpusSource,
    store_corpus,
    write_pseudo,
    write_stored_corpus,
)
from dsi.index_folder.versions import Manifest
from dsi.indexing.options import TrainingOptions
from dsi.indexing.preparation import LEXICAL
from dsi.indexing.start import default_generator
from dsi.text_encoders.stored_text_encoder import open_text_encoder
from dsi.text_encoders.tokenized_corpus import TokenizedCorpus, in_row_order
from dsi.updating.first_training import training_options
from dsi.updating.options import UpdateOptions
from dsi.updating.plan import Update

if TYPE_CHECKING:
    from dsi.search.document_scores import DocumentScores

WORK = "updating"
CLAIM = "update.json"
NEW = "new"
_TOGETHER = 256
"""Batch size of documents for pseudo-query generation."""


@contextlib.contextmanager
def removed_unless_begun(work: Path) -> Iterator[None]:
    """Removes the working folder of an update that never began."""
    try:
        yield
    finally:
        if not (work / CLAIM).is_file():
            remove_folder(work)


def clean_up(index: Path, work: Path) -> Mapping[str, Any] | None:
    """Removes the working folder of an update that never began, or whose version is live.

    Returns:
        The claim of the update whose version is live; None if there is none.
    """
    if not (work / CLAIM).is_file():
        remove_folder(work)  # killed before it began
        return None
    manifest = Manifest.load(versions.folder(index, versions.live(index)))
    claim = read_json(work / CLAIM)
    if manifest.configuration.get("update", {}).get("claim") != claim:
        return None
    remove_folder(work)
    return dict(claim)


def abandon(work: Path, claim: Mapping[str, Any]) -> None:
    """Removes the work in progress of an update that can no longer be resumed.

    Raises:
        InputError: The update can be resumed with its own options.
    """
    former = read_json(work / CLAIM)
    if {**former, "parent": claim["parent"]} != claim:
        raise InputError(
            "an update with other documents or options was interrupted here",
            where=work,
            hint="Run it again with its own options, or remove this folder",
        )
    note(f"starting over: the interrupted update was based on version {former['parent']}")
    for part in work.iterdir():
        if part.name not in (CLAIM, NEW):
            remove_folder(part) if part.is_dir() else part.unlink()
    (work / CLAIM).unlink()


def open_stored_corpus(
    parent: Path, work: Path, old: Dataset | None, manifest: Manifest
) -> StoredCorpus:
    """Opens the stored corpus of a version, or builds one from the dataset that the user gave."""
    if (parent / FOLDER).is_dir() or old is None:
        return StoredCorpus.open(parent)
    if old.info.content_hash != manifest.dataset.get("content_hash"):
        raise InputError(
            f"this is not the dataset that the index was trained on ({manifest.dataset})",
            where=old.path,
            hint="Give that dataset as --old",
        )
    store_corpus(work / "old", old, old.generators[0] if old.generators else None)
    return StoredCorpus.open(work / "old")


def prepare_parts(
    work: Path,
    parent: Path,
    corpus: StoredCorpus,
    new: Dataset,
    difference: Difference,
    options: UpdateOptions,
    manifest: Manifest,
) -> None:
    """Writes identifiers, vocabulary, corpus and probe set of the new version."""
    training = training_options(manifest)
    source = StoredCorpusSource(
        corpus.dataset, more=new, new=difference.new, without=difference.removed
    )
    merged = write_stored_corpus(work / FOLDER, source)
    wanted = set(difference.new)
    fresh = [document for document in new.documents() if document.doc_id in wanted]
    text = open_text_encoder(parent / "text")
    with replacing_folder(work / "text") as folder:
        text.extended([document.title_and_text for document in fresh]).save(folder)
    if options.strategy != "append":
        _write_pseudo(merged, corpus, difference, options, training, parent / IN_VERSION)
    else:
        _keep_pseudo(merged, corpus, difference)
    assignment = Assignment.open(parent / "assignment")
    if difference.removed:
        assignment = assignment.retire(difference.removed)
    added = set(difference.added)
    unnamed = [document for document in fresh if document.doc_id in added]
    if unnamed:
        queries = _describing(assignment, unnamed, merged, training, parent / IN_VERSION)
        assignment = assignment.extend(unnamed, queries=queries)
    assignment.save(work / "docids")
    if (parent / LEXICAL).is_dir():
        from dsi.lexical.layer_builder import LexicalIndex

        LexicalIndex.open(parent / LEXICAL).changed(
            fresh,
            assignment.table.find([document.doc_id for document in fresh]),
            live=~np.asarray(assignment.table.retired),
        ).save(work / LEXICAL)
    probe = Probe.of(
        corpus,
        without=[*difference.changed, *difference.removed],
        most=options.probe_queries,
        seed=options.seed,
    )
    write_json(work / "probe.json", probe.to_json())
    write_json(work / "difference.json", {**asdict(difference), "name": new.info.name})


def _write_pseudo(
    merged: Dataset,
    corpus: StoredCorpus,
    difference: Difference,
    options: UpdateOptions,
    training: TrainingOptions,
    writer: Path,
) -> None:
    """Keeps the pseudo-queries of old documents and generates those of new ones.

    A generative memory, if used, is that of the index.
    """
    name = options.generator
    if name == "auto":
        name = corpus.generator or ""
        if not name and training.generator == "none":
            return
        name = name or default_generator(merged)
    per_doc = options.per_doc or training.per_doc
    chosen = generator_options(name, per_doc=per_doc, seed=training.seed, memory=writer)
    generator = GENERATORS[name](merged, chosen)
    kept = corpus.generator == name
    new = set(difference.new)
    gone = new.union(difference.removed)

    def rows() -> Iterator[tuple[str, str, str, str]]:
        if kept:
            yield from (row for row in corpus.pseudo_rows() if row[1] not in gone)
        documents = (
            document for document in merged.documents() if not kept or document.doc_id in new
        )
        total = len(new) if kept else merged.info.documents
        tracked = track(documents, f"pseudo-queries ({name})", total=total)
        while batch := list(islice(tracked, _TOGETHER)):
            for document, queries in zip(batch, generator.generate_batch(batch), strict=True):
                for number, query in enumerate(dict.fromkeys(each.text for each in queries)):
                    yield (f"{document.doc_id}#{name}-{number}", document.doc_id, query, name)

    write_pseudo(merged, name, rows(), provenance(merged, name, chosen))


def _keep_pseudo(merged: Dataset, corpus: StoredCorpus, difference: Difference) -> None:
    """Keeps the pseudo-queries of unchanged documents; generates none."""
    if corpus.generator is None:
        return
    gone = {*difference.changed, *difference.removed}
    rows = (row for row in corpus.pseudo_rows() if row[1] not in gone)
    assert corpus.pseudo_provenance is not None
    write_pseudo(merged, corpus.generator, rows, corpus.pseudo_provenance)


def _describing(
    assignment: Assignment,
    documents: list[Document],
    merged: Dataset,
    training: TrainingOptions,
    writer: Path,
) -> list[list[str]] | None:
    """Returns the pseudo-queries that describe new documents; None if not needed.

    They are those that the model is trained on, or, if the old identifiers come from another
    generator, new ones from that generator.
    """
    wanted = assignment.table.options.get("generator")
    if not KINDS[assignment.table.kind].extends_by_queries or wanted is None:
        return None
    written = next(iter(merged.generators), None)
    name = (written or "extractive") if wanted == "auto" else wanted
    if name != written:
        # As many as `docids.pseudo_queries.queries_of` made for the old documents.
        options = generator_options(name, per_doc=GeneratorOptions.per_doc, seed=0, memory=writer)
        given = GENERATORS[name](merged, options).generate_batch(documents)
        return [[query.text for query in queries] for queries in given]
    queries_of: dict[str, list[str]] = {document.doc_id: [] for document in documents}
    for doc_id, text in arrow.read_rows(merged.path / "pseudo" / name, ["doc_id", "text"]):
        if doc_id in queries_of:
            queries_of[doc_id].append(text)
    return list(queries_of.values())


def open_update(index: Path, options: UpdateOptions) -> Update:
    """Opens the inputs that `dsi update` has written."""
    work = index / WORK
    parent = versions.folder(index, read_json(work / CLAIM)["parent"])
    manifest = Manifest.load(parent)
    corpus = StoredCorpus.open(work)
    assignment = Assignment.open(work / "docids")
    table = assignment.table
    stored = read_json(work / "difference.json")
    new = table.find([*stored["added"], *stored["changed"]])
    return Update(
        options=options,
        parent=parent,
        manifest=manifest,
        training=training_options(manifest),
        known_tokens=open_text_encoder(parent / "text").vocabulary_size,
        assignment=assignment,
        corpus=corpus,
        generator=corpus.generator,
        documents=TokenizedCorpus.of(
            in_row_order(corpus.dataset.documents(), table), table, open_text_encoder(work / "text")
        ),
        new_rows=np.sort(new),
        lexical=open_lexical(work),
    )


def open_lexical(folder: Path) -> DocumentScores | None:
    """Opens the lexical layer in the folder of a version, or of one in progress."""
    if not (folder / LEXICAL).is_dir():
        return None
    from dsi.lexical.layer_builder import open_layer

    return open_layer(folder / LEXICAL)
