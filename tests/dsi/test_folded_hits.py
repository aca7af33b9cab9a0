"""Passage hits are merged into document hits, as many as requested."""

from dsi.index import Hit, folded_hits

PASSAGES = [f"a#passage-{n}" for n in range(1, 21)] + ["b#passage-1", "c#passage-1"]


def ranked(asked):
    def rank(queries, depth, beams):
        asked.append((queries, depth, beams))
        return [
            [Hit(name, -float(place), "") for place, name in enumerate(PASSAGES[:depth])]
            for _ in queries
        ]

    return rank


def test_a_document_has_the_score_of_its_best_passage_and_names_it():
    [hits] = folded_hits(ranked([]), ["q"], 2, None, len(PASSAGES))
    assert hits == [
        Hit("a", 0.0, "", passage="a#passage-1"),
        Hit("b", -20.0, "", passage="b#passage-1"),
    ]


def test_the_search_goes_deeper_only_as_long_as_documents_are_missing():
    asked = []
    folded_hits(ranked(asked), ["q"], 1, None, len(PASSAGES))
    assert [depth for _, depth, _ in asked] == [4]
    asked.clear()
    folded_hits(ranked(asked), ["q"], 3, None, len(PASSAGES))
    assert [depth for _, depth, _ in asked] == [12, 22]
    asked.clear()
    [hits] = folded_hits(ranked(asked), ["q"], 10, None, len(PASSAGES))
    assert [hit.doc_id for hit in hits] == ["a", "b", "c"]


def test_the_width_that_was_asked_for_bounds_the_depth():
    asked = []
    [hits] = folded_hits(ranked(asked), ["q"], 3, 5, len(PASSAGES))
    assert asked == [(["q"], 5, 5)]
    assert [hit.doc_id for hit in hits] == ["a"]
