from dsi.evaluation.groups import group_queries


def test_a_query_is_seen_if_a_document_relevant_to_it_has_a_training_query():
    training = {"t1": {"d1": 1, "d2": 0}, "t2": {"d4": 2}}
    qrels = {
        "seen": {"d1": 1},
        "judged irrelevant in training": {"d2": 1},
        "never": {"d3": 1},
        "one of two": {"d3": 1, "d4": 1},
        "only its irrelevant one": {"d3": 1, "d1": 0},
        "nothing relevant": {"d1": 0},
    }
    assert group_queries(qrels, training) == {
        "all": list(qrels),
        "seen": ["seen", "one of two"],
        "unseen": ["judged irrelevant in training", "never", "only its irrelevant one"],
    }


def test_without_training_queries_everything_is_unseen():
    assert group_queries({"q": {"d": 1}}, {}) == {"all": ["q"], "seen": [], "unseen": ["q"]}
