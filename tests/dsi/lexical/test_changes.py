"""Documents are added, changed and deleted: the layer equals one built from the final corpus."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lexical_oracles import NONE, documents_of

from data_prep.errors import InputError
from dsi.lexical.features import Statistics
from dsi.lexical.layer import Postings
from dsi.lexical.layer_builder import LexicalIndex, open_layer
from dsi.lexical.lexicon import Lexicon
from dsi.lexical.options import LexicalOptions

QUERIES = ["cat owl", "new words", "sat on the mat", "dog"]
WORDS = ["cat", "dog", "owl", "new", "words", "sat", "mat"]
sentence = st.lists(st.sampled_from(WORDS), max_size=6)
texts = st.lists(sentence.map(" ".join), min_size=1, max_size=5)


def index_of(texts, titles=None) -> LexicalIndex:
    made = LexicalIndex.build(
        documents_of(texts, titles),
        language="none",
        options=LexicalOptions(),
        labeled=NONE,
        dev=NONE,
        seed=0,
    )
    with np.errstate(all="ignore"):
        made.weighting.in_document.data += 0.1
        made.weighting.of_word.data -= 0.05
    return made


@given(first=texts, more=texts, changed=sentence.map(" ".join), gone=st.integers(0, 9))
def test_changing_is_building_anew_with_the_same_weighting(first, more, changed, gone):
    index = index_of(first)
    final = [changed, *first[1:], *more]
    live = np.ones(len(final), bool)
    live[gone % len(final)] = len(final) == 1
    rows = np.array([0, *range(len(first), len(final))])
    after = index.changed(documents_of([changed, *more]), rows, live=live)
    kept = [text if alive else "" for text, alive in zip(final, live, strict=True)]
    # By hand: recount everything with the extended vocabulary.
    lexicon = Lexicon.count(documents_of(kept), after.vocabulary, grow=False)
    statistics = Statistics.of(lexicon, after.vocabulary.words, int(live.sum()))
    wanted = Postings.of(after.weighting, lexicon, statistics, after.scales)
    found = after.layer().postings
    assert found.offsets.tolist() == wanted.offsets.tolist()
    assert found.rows.tolist() == wanted.rows.tolist()
    assert np.array_equal(found.weights, wanted.weights)
    assert (after.layer().scores(QUERIES)[:, ~live] == 0).all()


def test_thirty_additions_are_one(build):
    texts = [f"owl number{row} sat on mat{row % 7}" for row in range(31)]
    grown = index_of(texts[:1])
    for row in range(1, 31):
        live = np.ones(row + 1, bool)
        grown = grown.changed(documents_of([texts[row]]), np.array([row]), live=live)
    once = index_of(texts[:1]).changed(
        documents_of(texts[1:]), np.arange(1, 31), live=np.ones(31, bool)
    )
    assert np.array_equal(grown.layer().scores(["owl mat3"]), once.layer().scores(["owl mat3"]))


def test_what_is_saved_comes_back(tmp_path):
    index = index_of(["An owl sat. It ran", "new words"], ["Owls", ""])
    index.save(tmp_path / "lexical")
    again = LexicalIndex.open(tmp_path / "lexical")
    assert again.documents == 2
    assert np.array_equal(again.layer().scores(QUERIES), index.layer().scores(QUERIES))
    layer = open_layer(tmp_path / "lexical")
    assert np.array_equal(layer.scores(QUERIES), index.layer().scores(QUERIES))
    assert layer.vocabulary.words == index.vocabulary.words


@pytest.mark.parametrize("name", ["layer/rows.npy", "layer/weights.npy", "layer/lexical.json"])
def test_a_damaged_layer_is_refused_in_one_line(tmp_path, name):
    index_of(["an owl sat"]).save(tmp_path / "lexical")
    file = tmp_path / "lexical" / name
    if name.endswith("json"):
        file.write_text(file.read_text().replace('"documents": 1', '"documents": "x"'))
    else:
        array = np.load(file)
        array[:] = 77 if name == "layer/rows.npy" else np.nan
        np.save(file, array)
    with pytest.raises(InputError) as refusal:
        open_layer(tmp_path / "lexical")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.0},
        {"k1": 0.0},
        {"b": 0.0},
        {"b": 1.0},
        {"pairs": -0.1},
        {"title_weight": 0.0},
        {"steps": -1},
        {"candidates": 1},
        {"holdout": 1.0},
        {"code": "maybe"},
        {"enabled": False, "steps": 10},
    ],
)
def test_what_makes_no_sense_is_refused_by_name(options):
    with pytest.raises(InputError, match=f"--lexical.{list(options)[-1]}"):
        LexicalOptions(**options)


def test_it_can_be_off():
    assert not LexicalOptions(enabled=False).enabled
