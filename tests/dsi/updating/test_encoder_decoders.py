"""Current encoder-decoders: each is trained, searched, updated, and restored unchanged."""

from __future__ import annotations

import shutil

import growing_corpus
import pytest
import search_oracles
import tiny_checkpoints
import torch

from dsi import Index
from dsi.index_folder import versions
from dsi.indexing.build import train_index
from dsi.search.decoders import FAMILIES
from dsi.training.curves import read_scalars
from dsi.updating.options import UpdateOptions
from dsi.updating.update import update_index

QUERY = "where is the harbour and a whale"


def by_hand(index: Index, k: int) -> list[tuple[str, float]]:
    """What the definition of the search finds, with the network asked for whole identifiers."""
    rows = index.table.live.tolist()
    sequences = [tuple(index.table.sequences(row)[0]) for row in rows]
    tokens = torch.tensor(index.text.encode([QUERY], index.manifest.query_length))
    steps = search_oracles.log_probabilities(
        index.model, tokens, torch.ones_like(tokens), sequences
    )
    score = index.manifest.score
    found = search_oracles.plain_beam_search(steps[0], sequences, k, beams=k, score=score)
    return [(index.table.doc_ids[rows[place]], total) for place, total in found]


def assert_searched_as_by_hand(index: Index) -> None:
    hits, wanted = index.search(QUERY, k=5, beams=5), by_hand(index, 5)
    assert [hit.doc_id for hit in hits] == [doc_id for doc_id, _ in wanted]
    assert [hit.score for hit in hits] == pytest.approx([total for _, total in wanted], abs=1e-4)


@pytest.mark.parametrize("family", tiny_checkpoints.ENCODER_DECODERS)
def test_it_is_trained_searched_updated_and_reopened(family, corpora, tmp_path):
    texts = [document.text for document in corpora["full"].documents()]
    path = tiny_checkpoints.write_encoder_decoder(family, tmp_path / "checkpoint", texts)
    out = tmp_path / "index"
    wanted = growing_corpus.options(
        "semantic",
        lexical=False,
        model__pretrained=path,
        optimizer__lr=3e-3,
        optimizer__backbone_lr_scale=1.0,
        loop__steps=12,
        loop__evaluate_every=12,
        loop__checkpoint_every=12,
        loop__evaluate_queries=5,
    )
    train_index(corpora["old"], out, wanted)
    shutil.rmtree(path)  # the index is self-contained
    live = versions.folder(out, versions.live(out))
    _, losses = read_scalars(live / "log" / "tensorboard")["training/loss"]
    assert losses[-1] < losses[0]
    index = Index.open(out, "cpu")
    assert_searched_as_by_hand(index)
    # The fast paths for T5 apply only to models that are T5 in all parts.
    known = any(each.knows(index.model) for each in FAMILIES)
    assert known == (family in ("flan-t5", "byt5"))
    before = versions.live(out)
    update_index(out, corpora["new"], UpdateOptions(strategy="generative", steps=3))
    grown = Index.open(out, "cpu")
    assert versions.live(out) != before
    assert len(grown) == len(index) + 10
    assert_searched_as_by_hand(grown)
