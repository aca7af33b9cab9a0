"""Deletion: documents leave every search and the storage; audits; updates after deletions."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import growing_corpus
import pytest
import small
import torch
from growing_corpus import NEW, found

from data_prep.errors import InputError
from dsi import Index
from dsi.index_folder import versions
from dsi.index_folder.stored_corpus import StoredCorpus
from dsi.indexing.build import train_index
from dsi.updating.delete import delete_documents
from dsi.updating.options import UpdateOptions
from dsi.updating.update import update_index


def test_deleted_documents_are_found_no_more(index, corpora):
    texts = corpora["full"].query_texts()
    asked = [texts["test3"], texts["test4"], texts["test5"]]
    done = delete_documents(index, ["d3", "d5"])
    opened = Index.open(index, "cpu")
    assert len(opened) == 28
    assert done.manifest.documents == 28
    assert (done.manifest.added, done.manifest.removed) == (0, 2)
    everything = {hit.doc_id for hits in opened.search(asked, k=28, beams=40) for hit in hits}
    assert everything == {f"d{n}" for n in range(30)} - {"d3", "d5"}
    assert opened.search([texts["test4"]], k=1)[0][0].doc_id == "d4"


def test_nothing_is_trained_and_weights_are_one_file(index):
    delete_documents(index, ["d3"])
    one, two = (
        versions.folder(index, name) / "model" / "model.safetensors" for name in ("0001", "0002")
    )
    assert os.path.samefile(one, two)


def test_damaged_weights_are_not_carried_into_a_new_version(index):
    weights = versions.folder(index, "0001") / "model" / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    with pytest.raises(InputError, match=r"the file is \d+ bytes long instead of"):
        delete_documents(index, ["d3"], audit=False)
    small.without_checksums(versions.folder(index, "0001"))
    with pytest.raises(InputError, match="damaged or truncated"):
        delete_documents(index, ["d3"], audit=False)
    assert versions.names(index) == ["0001"]


def test_the_memory_forgets_them(index):
    delete_documents(index, ["d3"])
    memory = StoredCorpus.open(versions.folder(index, "0002"))
    assert "d3" not in memory.digests
    assert "d3" not in memory.dataset.doc_ids
    assert all(doc_id != "d3" for _, doc_id, _, _ in memory.pseudo_rows())
    content = b"".join(
        file.read_bytes() for file in memory.dataset.path.rglob("*") if file.is_file()
    )
    assert b"cityzor3" not in content


def test_the_new_version_has_no_title_of_theirs(index):
    before = list(Index.open(index, "cpu").titles)
    delete_documents(index, ["d3", "d5"])
    opened = Index.open(index, "cpu")
    deleted = [opened.table.doc_ids.index(doc_id) for doc_id in ("d3", "d5")]
    assert all(before[row] for row in deleted)
    assert list(opened.titles) == [
        "" if row in deleted else title for row, title in enumerate(before)
    ]
    files = [versions.folder(index, name) / "titles" / "text.npy" for name in ("0001", "0002")]
    one, two = (file.read_bytes().count(b"About") for file in files)
    assert two == one - 2


def test_the_audit_tells_what_the_model_still_knows(index):
    audit = delete_documents(index, ["d3", "d5"]).audit
    assert audit.queries == 10
    assert audit.returned == 0
    assert 0.5 <= audit.first <= audit.ten <= 1
    assert versions.Manifest.load(versions.folder(index, "0002")).metrics["audit"] == vars(audit)
    assert delete_documents(index, ["d7"], audit=False).audit is None


def test_the_audit_also_asks_what_the_index_was_not_trained_on(index):
    audit = delete_documents(index, ["d3", "d5"]).audit
    assert 0 < audit.own_queries <= 10
    assert 0.5 <= audit.own_first <= audit.own_ten <= 1


def test_a_scrub_replaces_the_rows_of_codes_that_only_they_have(index, corpora):
    before = Index.open(index, "cpu")
    done = delete_documents(index, ["d3", "d5"], scrub=True)
    assert vars(done.scrubbed) == {"rows": 2, "shared": 0, "edited": 0, "steps": 0}
    opened = Index.open(index, "cpu")
    codes = [int(before.table.sequence(row)[0]) for row in range(30)]
    old, new = (each.model.lm_head.weight for each in (before, opened))
    kept = [code for row, code in enumerate(codes) if row not in (3, 5)]
    torch.testing.assert_close(new[codes[3]], old[kept].mean(dim=0))
    assert torch.equal(new[codes[5]], new[codes[3]])
    assert torch.equal(new[kept], old[kept])
    assert done.after.ten <= done.audit.ten
    texts = corpora["full"].query_texts()
    assert opened.search([texts["test4"]], k=1)[0][0].doc_id == "d4"


def test_rolling_back_brings_them_back(index, corpora):
    delete_documents(index, ["d3"])
    versions.rollback(index)
    text = corpora["full"].query_texts()["test3"]
    assert Index.open(index, "cpu").search([text], k=1)[0][0].doc_id == "d3"


def test_a_deleted_document_can_come_back_under_a_new_identifier(index, corpora):
    old = Index.open(index, "cpu").table.sequence(3)
    delete_documents(index, ["d3"])
    options = UpdateOptions(strategy="generative", steps=4, ratio=0.0)
    done = update_index(index, corpora["full"], options)
    assert len(done.difference.added) == 11
    opened = Index.open(index, "cpu")
    assert len(opened) == 40
    row = opened.table.row_of("d3")
    assert row >= 30
    assert opened.table.sequence(row) != old


@pytest.mark.parametrize(
    ("doc_ids", "named"),
    [
        ([], "no document to delete"),
        (["d99"], "no document 'd99'"),
        ([f"d{n}" for n in range(30)], "all documents of the index"),
    ],
)
def test_what_cannot_be_deleted_is_refused(doc_ids, named, index):
    with pytest.raises(InputError, match=named):
        delete_documents(index, doc_ids)
    assert versions.names(index) == ["0001"]


@pytest.mark.parametrize("doc_ids", [["d99"], ["d3", "d99"], ["d98", "d99"]])
def test_an_unknown_id_is_told_before_the_weights_are_read(doc_ids, index):
    weights = versions.folder(index, "0001") / "model" / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()  # it may be a hard link
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="d99"):
        delete_documents(index, doc_ids)
    with pytest.raises(InputError, match=r"model\.safetensors"):
        delete_documents(index, ["d3"])


def test_deleting_twice_is_refused(index):
    delete_documents(index, ["d3"])
    with pytest.raises(InputError, match="was deleted"):
        delete_documents(index, ["d3"])
    assert versions.live(index) == "0002"


@pytest.mark.parametrize("asked", [["d3", "d5"], ["d4"]])
def test_a_deletion_killed_before_it_was_live_is_done_and_blocks_no_other(
    asked, index, monkeypatch
):
    class Killed(BaseException):
        pass

    def kill(*words):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(versions.Writer, "make_live", kill)
        with pytest.raises(Killed):
            delete_documents(index, ["d3", "d5"])
    assert versions.live(index) == "0001"
    done = delete_documents(index, asked)
    same = asked == ["d3", "d5"]
    assert versions.live(index) == done.manifest.version == ("0002" if same else "0003")
    assert done.manifest.documents == (28 if same else 27)
    assert done.audit is not None
    if same:
        with pytest.raises(InputError, match="was deleted"):
            delete_documents(index, asked)


QUICK = UpdateOptions(strategy="generative", steps=6, ratio=0.0)
RETRAIN = UpdateOptions(strategy="retrain", steps=6)


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
@pytest.mark.parametrize("strategy", ["generative", "reindex", "retrain"])
def test_deleted_documents_stay_deleted(kind, strategy, trained, corpora, tmp_path):
    index = Path(shutil.copytree(trained(kind), tmp_path / "index"))
    before = Index.open(index, "cpu").table
    delete_documents(index, ["d3", "d5"], audit=False)
    options = UpdateOptions(strategy=strategy, steps=6)
    assert update_index(index, corpora["new"], options).manifest.documents == 38
    opened = Index.open(index, "cpu")
    kept = [row for row in range(30) if row not in (3, 5)]
    assert opened.table.live.tolist() == [*kept, *range(30, 40)]
    assert [opened.table.sequence(row) for row in kept] == [before.sequence(row) for row in kept]
    assert found(index, corpora["full"], NEW) >= 0.9
    assert found(index, corpora["full"], kept) >= 0.6
    assert found(index, corpora["full"], [3, 5]) == 0


def test_a_document_that_came_back_is_retrained_under_its_new_identifier(index, corpora):
    delete_documents(index, ["d3"], audit=False)
    done = update_index(index, corpora["full"], RETRAIN)
    assert "d3" in done.difference.added
    opened = Index.open(index, "cpu")
    assert (len(opened.table), len(opened.table.live)) == (41, 40)
    assert found(index, corpora["full"], [3]) == 1


def options():
    return growing_corpus.options("atomic")


def test_training_again_where_an_index_has_grown_changes_nothing(index, corpora, capsys):
    update_index(index, corpora["new"], QUICK)
    delete_documents(index, ["d3"], audit=False)
    before = small.weights(index)
    assert train_index(corpora["old"], index, options()).version == "0003"
    assert (small.weights(index), versions.live(index)) == (before, "0003")
    assert "the index has changed since, and version 0003 is live" in capsys.readouterr().err


def test_training_otherwise_where_an_index_has_grown_is_refused(index, corpora):
    update_index(index, corpora["new"], QUICK)
    other = dataclasses.replace(options(), seed=9)
    with pytest.raises(InputError, match=r"index of other options \(--seed 0 there, 9 here\)"):
        train_index(corpora["old"], index, other)
    assert versions.live(index) == "0002"
