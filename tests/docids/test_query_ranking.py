import numpy as np

from docids import query_ranking
from docids.query_ranking import rank_by_round_trip

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
