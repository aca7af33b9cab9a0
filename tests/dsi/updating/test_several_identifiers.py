"""Text identifiers: trained, found, updated and deleted, including multiple and shared ones."""

from __future__ import annotations

import dataclasses

import pytest
import small
from growing_corpus import NEW, OLD, found

from data_prep.dataset import InMemorySource
from data_prep.dataset_writer import write_dataset
from data_prep.generators import GENERATORS
from docids.assignment import Assignment
from docids.kinds.keywords import KeywordOptions
from docids.pieces import Pieces
from dsi import Index
from dsi.index_folder import versions
from dsi.index_folder.stored_corpus import StoredCorpus
from dsi.indexing.build import train_index
from dsi.updating.delete import delete_documents
from dsi.updating.options import UpdateOptions
from dsi.updating.update import update_index


def test_they_go_through_training_updating_and_deleting(corpora, tmp_path):
    index = tmp_path / "index"
    options = KeywordOptions(count=1, identifiers=2, collisions="share")
    train_index(
        corpora["old"], index, small.options(docids="keywords", keywords=options, loop__steps=16)
    )
    before = Index.open(index, "cpu")
    assert not before.table.one_each
    assert found(index, corpora["full"], OLD) > 0.6
    (hits,) = before.search([corpora["old"].query_texts()["test0"]], k=20, beams=40)
    assert len({hit.doc_id for hit in hits}) == len(hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    update_index(index, corpora["new"], UpdateOptions(strategy="generative", steps=6, ratio=0.0))
    after = Index.open(index, "cpu")
    assert len(after) == 40
    for row in range(30):
        assert after.table.sequences(row) == before.table.sequences(row)
    assert found(index, corpora["full"], NEW) > 0
    delete_documents(index, ["d0"])
    left = Index.open(index, "cpu")
    assert len(left) == 39
    hits = left.search([corpora["old"].query_texts()["test0"]], k=20, beams=40)[0]
    assert "d0" not in {hit.doc_id for hit in hits}


def test_what_keeps_old_documents_looks_at_the_right_identifiers(corpora, tmp_path, monkeypatch):
    from dsi.updating.regularization import per_sample_gradients as samples

    index = tmp_path / "index"
    options = KeywordOptions(count=1, identifiers=2, collisions="share")
    train_index(
        corpora["old"], index, small.options(docids="keywords", keywords=options, loop__steps=2)
    )
    seen = []
    real = samples.log_probability

    def watched(model, batch, targets):
        seen.extend(batch.rows.tolist())
        return real(model, batch, targets)

    monkeypatch.setattr(samples, "log_probability", watched)
    strategy = "generative+ewc+distill"
    update_index(index, corpora["new"], UpdateOptions(strategy=strategy, steps=2, ratio=0.0))
    table = Index.open(index, "cpu").table
    owners = table.owners[seen]
    assert set(owners) <= set(OLD)
    assert len(set(owners)) > len(OLD) / 2, "a document's number is not that of its identifiers"


def phrases(index):
    """What the identifier of each document says: doc_id -> words."""
    assignment = Assignment.open(versions.folder(index, versions.live(index)) / "assignment")
    pieces = Pieces.of(assignment.built.extras)
    table = assignment.table
    return {doc_id: pieces.text(table.sequence(row)) for row, doc_id in enumerate(table.doc_ids)}


def shuffled(text):
    """The words of a phrase in no order, as normalizing may have left them."""
    return sorted(text.lower().split())


@pytest.mark.parametrize("generator", ["extractive", "none"])
def test_new_documents_are_described_by_their_own_pseudo_queries(generator, corpora, tmp_path):
    index = tmp_path / "index"
    train_index(
        corpora["old"],
        index,
        small.options(docids="description", loop__steps=4, generator=generator),
    )
    update_index(index, corpora["new"], UpdateOptions(strategy="finetune", steps=2))
    memory = StoredCorpus.open(versions.folder(index, versions.live(index)))
    written = {f"d{number}": [] for number in range(40)}
    if generator == "extractive":
        for _, doc_id, text, _ in memory.pseudo_rows():
            written[doc_id].append(shuffled(text))
    else:
        assert memory.generator is None
        writer = GENERATORS["extractive"](memory.dataset, GENERATORS["extractive"].options_class())
        for document in memory.dataset.documents():
            written[document.doc_id] = [shuffled(text) for text in writer.generate(document)]
    said = phrases(index)
    assert all(shuffled(said[f"d{number}"]) in written[f"d{number}"] for number in NEW)


def test_new_documents_are_named_by_their_urls(corpora, tmp_path):
    def with_urls(part):
        documents = [
            dataclasses.replace(each, url=f"https://u.org/page/{each.doc_id}")
            for each in corpora[part].documents()
        ]
        return write_dataset(tmp_path / part, InMemorySource(documents, name=part))

    index = tmp_path / "index"
    train_index(with_urls("old"), index, small.options(docids="url", loop__steps=4))
    update_index(index, with_urls("new"), UpdateOptions(strategy="finetune", steps=2))
    assert phrases(index) == {f"d{n}": f"u org page d{n}" for n in range(40)}
