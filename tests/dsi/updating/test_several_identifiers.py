"""Documents with several identifiers, some of them shared: trained, found, updated, deleted."""

from __future__ import annotations

import small
from growing_corpus import NEW, OLD, found

from docids.kinds.keywords import KeywordOptions
from dsi import Index
from dsi.training.build import train_index
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
