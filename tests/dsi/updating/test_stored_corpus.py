"""The stored corpus of an index, and its difference from new documents."""

from __future__ import annotations

import numpy as np

from data_prep.dataset import Dataset, Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from dsi.index_folder import versions
from dsi.index_folder.stored_corpus import (
    Difference,
    StoredCorpus,
    StoredCorpusSource,
    digest,
    write_stored_corpus,
)


def write(path, texts: dict[str, str], queries: dict[str, tuple[str, str]] | None = None):
    """Writes documents id -> text, and queries id -> (document, split)."""
    documents = [Document(doc_id, f"Title {doc_id}", text) for doc_id, text in texts.items()]
    asked = queries or {}
    return write_dataset(
        path,
        InMemorySource(
            documents,
            [Query(query_id, f"about {query_id}") for query_id in asked],
            [Qrel(query_id, doc_id, 1, split) for query_id, (doc_id, split) in asked.items()],
        ),
    )


def test_a_digest_is_of_title_and_text():
    one = Document("a", "t", "x")
    assert digest(one) == digest(Document("b", "t", "x")), "the id does not count"
    others = [Document("a", "t", "y"), Document("a", "u", "x"), Document("a", "tx", "")]
    assert len({digest(document) for document in [one, *others]}) == 4
    assert len(digest(one)) == 16


def test_documents_are_new_changed_or_the_same(tmp_path):
    old = {"a": digest(Document("a", "", "1")), "b": digest(Document("b", "", "2"))}
    batch = [Document("b", "", "2"), Document("c", "", "3"), Document("a", "", "other")]
    found = Difference.between(old, batch)
    assert (found.added, found.changed, found.unchanged) == (["c"], ["a"], ["b"])
    assert found.new == ["c", "a"]


def test_a_trained_index_remembers_documents_and_queries_but_no_test_query(trained, corpora):
    version = versions.folder(trained("atomic"), "0001")
    memory = StoredCorpus.open(version)
    assert memory.dataset.doc_ids == corpora["old"].doc_ids
    assert memory.dataset.info.qrels == {"train": 30, "dev": 30}
    assert not any(query_id.startswith("test") for query_id in memory.dataset.query_texts())
    assert memory.digests == {each.doc_id: digest(each) for each in corpora["old"].documents()}
    assert memory.generator == "extractive"
    counts = np.unique([doc_id for _, doc_id, _, _ in memory.pseudo_rows()], return_counts=True)[1]
    assert len(counts) == 30
    assert counts.max() == 4


def test_merging_keeps_places_and_replaces_texts(tmp_path):
    old = write(tmp_path / "old", {"a": "1", "b": "2", "c": "3"}, {"q": ("b", "train")})
    new = write(
        tmp_path / "new",
        {"d": "4", "b": "two", "c": "3"},
        {"p": ("d", "train"), "t": ("d", "test")},
    )
    merged = write_stored_corpus(
        tmp_path / "merged", StoredCorpusSource(old, more=new, new={"d", "b"})
    )
    assert [(each.doc_id, each.text) for each in merged.documents()] == [
        ("a", "1"), ("b", "two"), ("c", "3"), ("d", "4"),
    ]  # fmt: skip
    assert set(merged.query_texts()) == {"q", "p"}


def test_what_is_deleted_is_forgotten(tmp_path):
    old = write(tmp_path / "old", {"a": "1", "b": "2"}, {"q": ("b", "train"), "p": ("a", "dev")})
    left = write_stored_corpus(tmp_path / "left", StoredCorpusSource(old, without={"b"}))
    assert left.doc_ids == ["a"]
    assert set(left.query_texts()) == {"p"}
    content = b"".join(file.read_bytes() for file in (tmp_path / "left").rglob("*.arrow"))
    assert b"about q" not in content
    assert isinstance(Dataset.open(tmp_path / "left"), Dataset)
