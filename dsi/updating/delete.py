"""Deleting documents: retires identifiers and removes texts and titles, without training.

The new version has the weights of its parent, hard-linked if the file system allows. The prefix
tree no longer contains a deleted document, so no search can return it. The audit tells whether the
model would still rank it if the tree did. Its id stays in the table, so that its identifier is
never reused, and so does an identifier that is text. Its words stay in the vocabulary, and what the
model has learned about it stays in the weights, unless a scrub takes out what is closed-form
(`dsi.updating.scrub`).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from data_prep.passages import document_of
from docids.assignment import Assignment
from docids.store import naming
from docids.strings import Strings
from docids.table import DocidTable
from docids.trie import Trie
from dsi.index import open_titles, write_titles
from dsi.index_folder import versions
from dsi.index_folder.stored_corpus import (
    FOLDER,
    StoredCorpus,
    StoredCorpusSource,
    write_stored_corpus,
)
from dsi.index_folder.version_files import link_or_copy
from dsi.index_folder.versions import Manifest
from dsi.indexing.preparation import LEXICAL
from dsi.updating.parent import check_parent
from dsi.updating.scrub import Scrubbed
from dsi.updating.strategy_state import FOLDER as STATE
from dsi.updating.strategy_state import FORMER_FOLDER as FORMER_STATE

if TYPE_CHECKING:
    from transformers import PreTrainedModel

QUERIES = 5
"""Maximum number of audit queries per deleted document."""
_SCRUBBED = 20
"""Maximum number of stored queries per deleted document by which an edit is scrubbed."""
_KEPT = 2000
"""Maximum number of queries of live documents that keep their probabilities."""
_OWN_SEED = 1 << 20
"""Seed of the audit's own queries; a first training that has it would be trained on them."""
_LINKED = ("model", "text", "log", "memory", STATE, FORMER_STATE)


@dataclass(frozen=True)
class Audit:
    """Whether a model would still rank deleted documents if they were in the prefix tree.

    Attributes:
        queries: Number of queries, of the kind that the documents were trained on.
        first: Fraction of queries whose deleted document would rank first.
        ten: Fraction of queries whose deleted document would be in the top ten.
        returned: How often the new version returned it; anything but 0 is a bug.
        own_queries: Number of other queries, made from the documents' texts for the audit; an index
            was hardly trained on them.
        own_first: As `first`, of these.
        own_ten: As `ten`, of these.
    """

    queries: int
    first: float
    ten: float
    returned: int
    own_queries: int = 0
    own_first: float = 0.0
    own_ten: float = 0.0


@dataclass(frozen=True)
class Deleted:
    """The result of a deletion.

    Attributes:
        manifest: Manifest of the version that is now live.
        doc_ids: The documents.
        audit: The audit; None if disabled, or if no query for the documents is known.
        scrubbed: What a scrub removed; None without one.
        after: The audit after the scrub.
    """

    manifest: Manifest
    doc_ids: list[str]
    audit: Audit | None
    scrubbed: Scrubbed | None = None
    after: Audit | None = None


def delete_documents(
    index: Path,
    doc_ids: Sequence[str],
    *,
    audit: bool = True,
    scrub: bool = False,
    scrub_steps: int = 0,
) -> Deleted:
    """Deletes documents from an index, as a new version.

    Args:
        index: The folder of the index.
        doc_ids: Ids of the documents, without duplicates.
        audit: Whether to query the model for them afterwards.
        scrub: Whether to remove from the weights what is closed-form (`dsi.updating.scrub`).
        scrub_steps: How many steps then train the documents away.

    Raises:
        InputError: An id is unknown, already deleted or given twice; no id is given; no document
            would be left; or another command writes to the index.
    """
    if scrub_steps < 0 or (scrub_steps and not scrub):
        raise InputError(
            f"--scrub_steps {scrub_steps} "
            + ("has no effect without --scrub" if scrub_steps > 0 else "is negative"),
            hint="Give --scrub, or omit it" if scrub_steps > 0 else "Give 0 or more",
        )
    named = list(dict.fromkeys(doc_ids))
    if not named:
        raise InputError("no document to delete", hint="Give the ids of documents")
    versions.live(index)  # the lock would create a missing folder
    with versions.lock(index) as writer:
        parent = versions.live(index)
        folder = versions.folder(index, parent)
        manifest = Manifest.load(folder)
        if writer.finished is not None and _deletes(index, manifest, named):
            return _as_stored(manifest, named)
        deletion = _Deletion.of(index, folder, manifest, named)
        first = deletion.audit() if audit else None
        model = scrubbed = second = None
        if scrub:
            from dsi.backbones.backbone import load_backbone

            model = load_backbone(folder / "model")
            scrubbed = deletion.scrub(model, scrub_steps)
            second = deletion.audit(model) if first is not None else None
        measured = {"audit": first, "scrubbed": scrubbed, "audit after": second}
        with writer.version(parent) as fresh:
            deletion.write(fresh, model)
            deletion.manifest_with(
                {name: vars(value) for name, value in measured.items() if value is not None}
            ).save(fresh)
    manifest = Manifest.load(versions.folder(index, versions.live(index)))
    return Deleted(manifest, deletion.doc_ids, first, scrubbed, second)


@dataclass(frozen=True)
class _Deletion:
    """Documents to delete from a version.

    Attributes:
        folder: The folder of the version.
        manifest: Its manifest.
        corpus: Its texts and queries; None if it stores none.
        before: Its identifiers.
        after: The identifiers once the documents are retired.
        doc_ids: Ids of the documents, or of their passages.
    """

    folder: Path
    manifest: Manifest
    corpus: StoredCorpus | None
    before: Assignment
    after: Assignment
    doc_ids: list[str]

    @classmethod
    def of(cls, index: Path, folder: Path, manifest: Manifest, named: list[str]) -> _Deletion:
        """Checks the version and retires the identifiers of documents.

        Args:
            index: The folder of the index.
            folder: The folder of the version.
            manifest: Its manifest.
            named: Ids of documents.

        Raises:
            InputError: The version is damaged, an id is unknown or deleted, or none would be left.
        """
        doc_ids = _rows_of(folder, manifest, named)
        before = check_parent(folder, manifest)  # a new version would inherit the damage
        after = before.retire(doc_ids)
        if not len(after.table.live):
            raise InputError(
                "this would delete all documents of the index; at least one must remain",
                where=index,
                hint="To delete all of them, remove the folder",
            )
        corpus = StoredCorpus.open(folder) if (folder / FOLDER).is_dir() else None
        return cls(folder, manifest, corpus, before, after, doc_ids)

    def write(self, fresh: Path, model: PreTrainedModel | None) -> None:
        """Writes the version without the documents.

        Args:
            fresh: The folder of the new version.
            model: Its model; None for that of the version before it.
        """
        if model is not None:
            from dsi.backbones.backbone import save_backbone

            save_backbone(model, fresh / "model")
        for name in _LINKED:
            if (self.folder / name).is_dir() and not (model is not None and name == "model"):
                shutil.copytree(self.folder / name, fresh / name, copy_function=link_or_copy)
        table = self.after.table
        write_titles(fresh, _titles_without(open_titles(self.folder), table))
        table.save(fresh / "docids")
        Trie.build(table).save(fresh / "docids" / "trie")
        self.after.save(fresh / "assignment")
        if (self.folder / LEXICAL).is_dir():
            from dsi.lexical.layer_builder import LexicalIndex

            lexical = LexicalIndex.open(self.folder / LEXICAL)
            no_rows, live = np.zeros(0, np.int64), ~np.asarray(table.retired)
            lexical.changed([], no_rows, live=live).save(fresh / LEXICAL)
        if self.corpus is not None:
            _forget(fresh / FOLDER, self.corpus, self.doc_ids)

    def manifest_with(self, metrics: dict[str, dict[str, Any]]) -> Manifest:
        """Returns the manifest of the version without the documents."""
        return Manifest(
            documents=len(self.after.table.live),
            added=0,
            removed=len(self.doc_ids),
            origin=f"deleted {len(self.doc_ids)} documents",
            dataset=self.manifest.dataset,
            configuration=self.manifest.configuration,
            metrics=metrics,
            query_length=self.manifest.query_length,
            beams=self.manifest.beams,
            score=self.manifest.score,
        )

    def audit(self, model: PreTrainedModel | None = None) -> Audit | None:
        """Queries deleted documents with and without their place in the tree.

        Args:
            model: The model to query; None for that of the version.

        Returns:
            The audit; None if no query for the documents is known.
        """
        if self.corpus is None or not (pairs := _queries_about(self.corpus, self.doc_ids)):
            return None
        from dsi.backbones.backbone import load_backbone
        from dsi.lexical.layer_builder import open_layer
        from dsi.search.torch_trie import TorchTrie
        from dsi.text_encoders.stored_text_encoder import open_text_encoder
        from dsi.training.validation import DevQueries, ranks_of

        folder, manifest, before = self.folder, self.manifest, self.before.table
        text = open_text_encoder(folder / "text")
        network = load_backbone(folder / "model") if model is None else model
        lexical = open_layer(folder / LEXICAL) if (folder / LEXICAL).is_dir() else None

        def ranks(asked: list[tuple[str, str]], table: DocidTable) -> npt.NDArray[np.float64]:
            rows = before.find([doc_id for _, doc_id in asked]).tolist()
            queries = DevQueries.of(
                [query for query, _ in asked], rows, text, manifest.query_length, lexical
            )
            trie = TorchTrie.from_trie(Trie.build(table))
            return ranks_of(network, queries, trie, manifest.beams, manifest.score)

        with_edges, without = ranks(pairs, before), ranks(pairs, self.after.table)
        own = _own(self.corpus, self.doc_ids)
        of_own = ranks(own, before) if own else np.full(1, np.inf)
        return Audit(
            queries=len(pairs),
            first=float((with_edges <= 1).mean()),
            ten=float((with_edges <= 10).mean()),
            returned=int(np.isfinite(without).sum()),
            own_queries=len(own),
            own_first=float((of_own <= 1).mean()),
            own_ten=float((of_own <= 10).mean()),
        )

    def scrub(self, model: PreTrainedModel, steps: int) -> Scrubbed:
        """Scrubs a model by the queries that are stored for the documents, and by their texts."""
        from dsi.text_encoders.stored_text_encoder import open_text_encoder
        from dsi.updating.scrub import Examples, scrub, train_away

        text, table, corpus = open_text_encoder(self.folder / "text"), self.after.table, self.corpus
        gone = frozenset(self.doc_ids)
        rows = {
            doc_id: row
            for row, doc_id in enumerate(table.doc_ids)
            if doc_id in gone and table.retired[row]
        }

        def read(
            pairs: list[tuple[str, str]], row_of: Mapping[str, int]
        ) -> tuple[list[list[int]], list[int]]:
            lines = text.encode([query for query, _ in pairs], self.manifest.query_length)
            known = [
                (line, row_of[name]) for line, (_, name) in zip(lines, pairs, strict=True) if line
            ]
            return [line for line, _ in known], [row for _, row in known]

        def examples(lines: list[list[int]], of: list[int]) -> Examples:
            return Examples(lines, [[int(code) for code in table.sequences(row)[0]] for row in of])

        asked = []
        if corpus is not None:
            asked = _queries_about(corpus, self.doc_ids, _SCRUBBED) + _own(corpus, self.doc_ids)
        lines, of = read(asked, rows)
        scrubbed = np.array(sorted(rows.values()), np.int64)
        done = scrub(model, self.folder, table, scrubbed, lines, of)
        if not steps or corpus is None or not lines:
            return done
        live = {table.doc_ids[row]: row for row in table.live.tolist()}
        pairs = [(query, doc_id) for _, doc_id, query, _ in corpus.pseudo_rows() if doc_id in live]
        picked = np.random.default_rng(0).permutation(len(pairs))[:_KEPT].tolist()
        retained = read([pairs[number] for number in picked], live)
        train_away(model, examples(lines, of), examples(*retained), steps=steps)
        return replace(done, steps=steps)


def _as_stored(manifest: Manifest, named: list[str]) -> Deleted:
    """Returns the result of a deletion from the manifest of its version."""
    audit, scrubbed, after = (
        manifest.metrics.get(name) for name in ("audit", "scrubbed", "audit after")
    )
    return Deleted(
        manifest,
        named,
        None if audit is None else Audit(**audit),
        None if scrubbed is None else Scrubbed(**scrubbed),
        None if after is None else Audit(**after),
    )


def _rows_of(folder: Path, manifest: Manifest, named: list[str]) -> list[str]:
    """Returns the ids of documents, or of their passages, in the table of a version.

    Only the table is read: of a large index, this takes a fraction of checking its weights.

    Raises:
        InputError: The table is missing or damaged, or an id is unknown or deleted.
    """
    table = DocidTable.open(folder / "docids")
    with naming(folder / "docids"):
        table.check()
    doc_ids = named if manifest.passages is None else _passages_of(table, named)
    table.refuse_unknown(doc_ids)
    return doc_ids


def _passages_of(table: DocidTable, documents: Sequence[str]) -> list[str]:
    """Returns the passage ids of documents; an id without passages is kept."""
    passages_of: dict[str, list[str]] = {doc_id: [] for doc_id in documents}
    for passage_id, retired in zip(table.doc_ids, table.retired, strict=True):
        if not retired and document_of(passage_id) in passages_of:
            passages_of[document_of(passage_id)].append(passage_id)
    return [name for doc_id, passages in passages_of.items() for name in passages or [doc_id]]


def _deletes(index: Path, manifest: Manifest, doc_ids: Sequence[str]) -> bool:
    """Returns whether a version is exactly its parent without these documents."""
    if manifest.parent is None or (manifest.added, manifest.removed) != (0, len(doc_ids)):
        return False
    tables = [
        Assignment.open(versions.folder(index, version) / "assignment").table
        for version in (manifest.parent, manifest.version)
    ]
    rows = [table.find(doc_ids) for table in tables]
    if any((places < 0).any() for places in rows):
        return False
    return not tables[0].retired[rows[0]].any() and bool(tables[1].retired[rows[1]].all())


def _titles_without(titles: Strings, table: DocidTable) -> Strings:
    """Returns the titles of all rows; those of deleted documents are empty."""
    retired = np.asarray(table.retired)
    return Strings.pack("" if gone else title for title, gone in zip(titles, retired, strict=True))


def _forget(folder: Path, corpus: StoredCorpus, doc_ids: Sequence[str]) -> None:
    gone = frozenset(doc_ids)
    write_stored_corpus(
        folder,
        StoredCorpusSource(corpus.dataset, without=gone),
        generator=corpus.generator,
        pseudo=(row for row in corpus.pseudo_rows() if row[1] not in gone),
        provenance=corpus.pseudo_provenance,
    )


def _own(corpus: StoredCorpus, doc_ids: Sequence[str]) -> list[tuple[str, str]]:
    """Makes queries for documents from their texts, other than those that are stored."""
    from data_prep.generators import GENERATORS

    kind = GENERATORS["extractive"]
    generator = kind(corpus.dataset, kind.options_class(per_doc=QUERIES, seed=_OWN_SEED))
    wanted = frozenset(doc_ids)
    stored = {(text, doc_id) for _, doc_id, text, _ in corpus.pseudo_rows() if doc_id in wanted}
    made = [
        (query.text, document.doc_id)
        for document in corpus.dataset.documents()
        if document.doc_id in wanted
        for query in generator.generate_batch([document])[0]
    ]
    return [pair for pair in dict.fromkeys(made) if pair not in stored]


def _queries_about(
    corpus: StoredCorpus, doc_ids: Sequence[str], most: int = QUERIES
) -> list[tuple[str, str]]:
    """Returns queries for documents: labeled ones, then pseudo-queries, then the title."""
    queries_of: dict[str, list[str]] = {doc_id: [] for doc_id in doc_ids}
    texts = corpus.dataset.query_texts()
    for split in ("train", "dev"):
        for query_id, judged in corpus.dataset.qrels_of(split).items():
            for doc_id, relevance in judged.items():
                if relevance > 0 and doc_id in queries_of and query_id in texts:
                    queries_of[doc_id].append(texts[query_id])
    for _, doc_id, query, _ in corpus.pseudo_rows():
        if doc_id in queries_of:
            queries_of[doc_id].append(query)
    for document in corpus.dataset.documents():
        if document.doc_id in queries_of and document.title.strip():
            queries_of[document.doc_id].append(document.title)
    return [(query, doc_id) for doc_id, queries in queries_of.items() for query in queries[:most]]
