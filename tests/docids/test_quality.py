from __future__ import annotations

import numpy as np
import pytest

from data_prep.errors import InputError
from docids import query_ranking
from docids.kinds import KINDS, Documents, TreeOptions
from docids.quality import _neighbors, gini, measure
from docids.query_ranking import rank_by_round_trip
from docids.table import END, DocidTable

LINE = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32)
LINE /= np.linalg.norm(LINE, axis=1, keepdims=True)


def measured(identifiers, vectors=LINE, alphabet_size=7, retire=()):
    ids = [f"d{i}" for i in range(len(identifiers))]
    table = DocidTable.from_sequences(ids, identifiers, alphabet_size=alphabet_size, kind="test")
    vectors = np.asarray(vectors, np.float32)
    return measure(table.retire(list(retire)), lambda: vectors, seed=0)


def test_counts_and_lengths():
    report = measured([(2, 3), (2, 4), (3, 2, END), (5,)]).to_dict()
    assert report["kind"] == "test"
    assert report["documents"] == 4
    assert report["unique"] == 1.0
    assert report["collisions"] == 0
    assert report["length"] == {
        "min": 1,
        "mean": 2.0,
        "max": 3,
        "histogram": {"1": 1, "2": 2, "3": 1},
    }


def test_alphabet():
    alphabet = measured([(2, 3), (2, 4), (3, 2, END), (5,)]).to_dict()["alphabet"]
    assert (alphabet["size"], alphabet["used"], alphabet["share_used"]) == (7, 4, 4 / 5)
    # Codes 2, 3, 4, END, 5 occur 3, 2, 1, 1, 1 times.
    shares = np.array([3, 2, 1, 1, 1]) / 8
    assert alphabet["entropy_bits"] == pytest.approx(-(shares * np.log2(shares)).sum())


def test_balance_of_each_level():
    root, second, third = measured([(2, 3), (2, 4), (3, 2, END), (5,)]).levels
    assert (root.nodes, root.documents, root.mean_branching, root.max_branching) == (1, 4, 3, 3)
    assert root.largest_child == 0.5
    assert root.entropy == pytest.approx(1.5 / np.log2(3))
    assert (second.nodes, second.documents, second.mean_branching) == (2, 3, 1.5)
    # The node 2 has two children of one document each, the node 3 has one of one.
    assert second.largest_child == pytest.approx((2 * 0.5 + 1 * 1.0) / 3)
    assert second.entropy == pytest.approx(1)
    assert (third.nodes, third.documents, third.largest_child, third.entropy) == (1, 1, 1, None)


def test_purity_is_the_share_of_neighbors_with_the_same_first_code():
    # All three neighbors of each document are considered; one of them shares its first code.
    purity = measured([(2, 2), (2, 3), (3, 2), (3, 3)]).purity
    assert purity.value == pytest.approx(1 / 3)
    assert purity.documents == 4


def test_purity_tells_meaning_from_chance():
    rng = np.random.default_rng(0)
    group = np.arange(400) % 4
    vectors = (np.eye(4)[group] + rng.normal(0, 0.1, (400, 4))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    options = TreeOptions(branching=4, leaf_capacity=100)
    documents = Documents([f"d{i}" for i in range(400)], [""] * 400, lambda texts: vectors)
    purity = {
        kind: measure(
            KINDS[kind].build(documents, options, 1).table, lambda: vectors, seed=0
        ).purity
        for kind in ("semantic", "random")
    }
    assert purity["semantic"].value > 0.9
    assert purity["random"].value == pytest.approx(purity["semantic"].shuffled, abs=0.05)
    assert purity["semantic"].shuffled < 0.5


def test_purity_of_atomic_identifiers_says_nothing_and_asks_for_no_vectors():
    table = DocidTable.from_sequences(["a", "b"], [(2,), (3,)], alphabet_size=4, kind="atomic")

    def vectors():
        raise AssertionError("not needed")

    report = measure(table, vectors, seed=0).to_dict()
    assert report["purity"] is None
    assert report["purity_reason"] == "no two documents share a first code"


def test_purity_of_documents_without_vectors_says_nothing():
    purity = measured([(2, 2), (2, 3)], np.zeros((2, 3))).purity
    assert (purity.value, purity.reason) == (None, "fewer than two documents have vectors")


def test_retired_documents_do_not_count():
    report = measured([(2, 2), (2, 3), (3, 2), (4, 3)], retire=["d0", "d3"]).to_dict()
    assert report["documents"] == 2
    assert report["alphabet"]["used"] == 2


def test_no_document():
    with pytest.raises(InputError, match="no document"):
        measured([])


@pytest.mark.parametrize("distinct", [3, 40])
def test_neighbors_agree_with_a_full_comparison(distinct):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(distinct, 5)).astype(np.float32)[rng.integers(distinct, size=60)]
    asked = np.arange(0, 60, 7)
    found = _neighbors(points, asked, 8)
    likeness = points @ points.T
    for row, itself in zip(found, asked, strict=True):
        assert itself not in row
        assert len(set(row.tolist())) == 8
        others = np.sort(np.delete(likeness[itself], itself))[::-1]
        np.testing.assert_allclose(np.sort(likeness[itself][row])[::-1], others[:8], rtol=1e-5)


def test_shared_and_several_identifiers_are_counted():
    table = DocidTable.from_sequences(
        ["a", "b", "c"],
        [(2, END), (2, END), (3, END), (4, 2, END)],
        alphabet_size=5,
        kind="test",
        counts=[1, 2, 1],
        shared=True,
    )
    quality = measure(table, lambda: np.eye(3, dtype=np.float32), seed=0)
    report = quality.to_dict()
    assert (report["documents"], report["identifiers"]) == (3, 4)
    assert (report["unique"], report["collisions"]) == (0.75, 1)
    assert report["shared_documents"] == 2
    assert report["length"]["histogram"] == {"2": 3, "3": 1}
    root = report["levels"][0]
    assert (root["documents"], root["largest_child"]) == (4, 0.5)
    assert ("identifiers", "4, 1.33 a document") in quality.rows()


def test_use_of_the_codes_at_each_position():
    first, second, third = measured([(2, 3), (2, 4), (3, 2, END), (5,)]).positions
    assert (first.identifiers, first.used, first.most_frequent) == (4, 3, 0.5)
    # The codes 2, 3 and 5 occur 2, 1 and 1 times: 1.5 bits.
    assert first.perplexity == pytest.approx(2**1.5)
    assert (second.identifiers, second.used) == (3, 3)
    assert (third.identifiers, third.used, third.perplexity) == (1, 1, 1.0)


def test_neighbors_under_a_shared_prefix():
    # The neighbors of each document are all three others: d0 and d1 share two codes, d2 one with
    # both, d3 none. So 3 x 2 of 12 pairs share the first code, 2 of 12 the first two, none three.
    quality = measured([(2, 4, 2), (2, 4, 3), (2, 5, 2), (3, 4, 2)])
    assert quality.purity.prefixes == pytest.approx((6 / 12, 2 / 12))
    assert quality.to_dict()["neighbor_hit_rate"] == list(quality.purity.prefixes)
    named = dict(quality.rows())
    assert named["neighbors with the same first codes"] == "0.500 (1), 0.167 (2)"


def test_equal_identifiers_of_different_lengths_share_what_they_have():
    # d0 and d1 are equal and end; d2 continues where they end; d3 has another first code.
    table = DocidTable.from_sequences(
        ["d0", "d1", "d2", "d3"],
        [(2, 3), (2, 3), (2, 4, 5), (3, 3)],
        alphabet_size=6,
        kind="test",
        shared=True,
    )
    purity = measure(table, lambda: LINE, seed=0).purity
    # For the third code: d0 and d1 have none and are the same; d2 shares nothing.
    assert purity.prefixes == pytest.approx((6 / 12, 2 / 12, 2 / 12))


def gini_by_hand(counts):
    differences = sum(abs(one - other) for one in counts for other in counts)
    return differences / (2 * len(counts) ** 2 * (sum(counts) / len(counts)))


@pytest.mark.parametrize(
    ("counts", "available", "expected"),
    [
        ([3, 3, 3], 0, 0.0),
        ([4], 4, 0.75),  # one of four codes has all
        ([1, 3], 0, 0.25),  # differences 2 + 2, over 2 x 4 x 2
        ([1, 3], 4, gini_by_hand([0, 0, 1, 3])),
        ([5, 1, 2], 3, gini_by_hand([5, 1, 2])),
    ],
)
def test_gini_is_half_the_mean_difference_over_the_mean(counts, available, expected):
    assert gini(np.array(counts), available) == pytest.approx(expected)


def test_gini_of_the_positions_with_a_codebook():
    ids = [f"d{row}" for row in range(4)]
    # The first position uses 2 of 2 codes equally, the second 1 of 2; the third is a number.
    codes = [(2, 4, 6), (2, 4, 7), (3, 4, 6), (3, 4, 7)]
    table = DocidTable.from_sequences(ids, codes, alphabet_size=8, kind="test")
    quality = measure(table, lambda: LINE, seed=0, codebooks=[2, 2])
    assert [position.gini for position in quality.positions] == [0, 0.5, 0]
    assert quality.gini == 0.25
    assert measure(table, lambda: LINE, seed=0).gini == 0


TEXTS = [
    "cats purr and cats sleep",
    "dogs bark and dogs sleep",
    "rain falls on cats and dogs",
]


def ranked(queries, texts=TEXTS):
    return rank_by_round_trip(texts, queries, language="english", seed=0)


def test_queries_that_find_their_document_come_first():
    assert ranked([["sleep", "rain falls", "cats purr", "cats"], ["bark"], []]) == [
        # "cats" ranks first because the third document lacks it; "sleep" is a tie; "rain" matches
        # another.
        ["cats purr", "cats", "sleep", "rain falls"],
        ["bark"],
        [],
    ]


def test_a_short_query_that_singles_out_beats_a_long_one_that_does_not():
    assert ranked([["cats sleep dogs", "purr"], [], []])[0] == ["purr", "cats sleep dogs"]


def test_texts_and_queries_without_words_keep_their_order():
    assert ranked([["b", "a"]], ["?"]) == [["b", "a"]]
    assert ranked([["zzz", "?"], [], []])[0] == ["zzz", "?"]


def test_a_sample_of_competitors_ranks_about_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(40)]
    texts = [" ".join(rng.choice(words, 6)) for _ in range(60)]
    queries = [[text.split()[0], " ".join(text.split()[:3])] for text in texts]
    everything = ranked(queries, texts)
    monkeypatch.setattr(query_ranking, "_CHUNK", 100)
    assert ranked(queries, texts) == everything
    monkeypatch.setattr(query_ranking, "_COMPETITORS", 40)
    some = ranked(queries, texts)
    assert sum(a == b for a, b in zip(some, everything, strict=True)) > 45


def test_identifiers_of_one_code_have_no_figures_of_prefixes():
    assert measured([(2,), (3,), (4,)]).predictors() == {}
    assert set(measured([(2, 4), (2, 5)]).predictors()) == {"neighbor_hit_rate", "gini"}
