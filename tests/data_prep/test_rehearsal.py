"""Parts of a document: by position, by TextRank, at random; in every script."""

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data_prep.dataset import Document
from data_prep.errors import InputError
from data_prep.rehearsal import (
    RehearsalOptions,
    page_rank,
    passages,
    single_sentences,
    text_rank,
    token_set,
)


def document(count):
    return Document("d", "Title", " ".join(f"Sentence number{n} ends." for n in range(count)))


def named(*numbers):
    return " ".join(f"Sentence number{n} ends." for n in numbers)


class TestLeading:
    def test_passages_are_sentences_in_a_row_with_a_stride(self):
        assert passages(document(9), RehearsalOptions(), 0) == [
            named(0, 1, 2, 3, 4),
            named(2, 3, 4, 5, 6),
            named(4, 5, 6, 7, 8),
        ]

    def test_the_last_passage_reaches_to_the_end(self):
        options = RehearsalOptions(passage_sentences=3, stride=3, most_passages=3)
        assert passages(document(8), options, 0)[-1] == named(5, 6, 7)

    def test_a_document_with_too_few_passages_gives_its_first(self):
        assert passages(document(7), RehearsalOptions(), 0) == [named(0, 1, 2, 3, 4)]
        assert passages(document(2), RehearsalOptions(), 0) == [named(0, 1)]
        assert passages(Document("d", "Title", " "), RehearsalOptions(), 0) == []

    def test_sentences_are_the_first_six_or_all(self):
        found = single_sentences(document(9), RehearsalOptions(), 0)
        assert found == [named(n) for n in range(6)]
        assert single_sentences(document(2), RehearsalOptions(), 0) == [named(0), named(1)]


class TestSummary:
    TEXT = (
        "The weather was fine. Otters eat fish and crabs in rivers. Fish and crabs live in rivers. "
        "My uncle sings. Otters hunt fish in cold rivers. A door closed."
    )

    def test_the_most_central_sentences_are_kept_in_order(self):
        options = RehearsalOptions(style="summary", most_sentences=3)
        assert single_sentences(Document("d", "", self.TEXT), options, 0) == [
            "Otters eat fish and crabs in rivers.",
            "Fish and crabs live in rivers.",
            "Otters hunt fish in cold rivers.",
        ]

    def test_the_most_central_passage_is_chosen(self):
        text = (
            "Otters swim fast. Rain falls. Otters and herons swim and fly. Herons fly. "
            "Herons fly high. A door closed."
        )
        options = RehearsalOptions(style="summary", passage_sentences=2, stride=2)
        assert passages(Document("d", "", text), options, 0) == [
            "Otters and herons swim and fly. Herons fly."
        ]

    def test_it_reads_scripts_without_blanks(self):
        text = "天気がいい。魚は川に住む。カワウソは川で魚を食べる。叔父が歌う。"
        options = RehearsalOptions(style="summary", most_sentences=2, language="none")
        assert single_sentences(Document("d", "", text), options, 0) == [
            "魚は川に住む。",
            "カワウソは川で魚を食べる。",
        ]

    def test_it_reads_from_right_to_left(self):
        text = "الجو جميل. السمك يعيش في النهر. القطة تأكل السمك في النهر. عمي يغني."
        options = RehearsalOptions(style="summary", most_sentences=2, language="none")
        assert single_sentences(Document("d", "", text), options, 0) == [
            "السمك يعيش في النهر.",
            "القطة تأكل السمك في النهر.",
        ]

    def test_edge_weights_are_those_of_the_paper(self):
        units = ["otter fish river", "otter fish stone cave", "door"]
        weight = 2 / (np.log(3) + np.log(4))
        expected = page_rank(np.array([[0, weight, 0], [weight, 0, 0], [0, 0, 0]]))
        assert text_rank(units, "none") == pytest.approx(expected)

    def test_texts_without_terms_are_equal(self):
        assert text_rank(["the", "of", "?"]) == pytest.approx([1 / 3] * 3)


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, (5, 5), elements=st.sampled_from([0.0, 0.5, 1.0, 3.0])))
def test_page_rank_is_that_of_networkx(weights):
    graph = networkx.from_numpy_array(weights, create_using=networkx.DiGraph)
    expected = networkx.pagerank(graph, alpha=0.85, tol=1e-12, max_iter=1000)
    assert page_rank(weights) == pytest.approx([expected[n] for n in range(5)], abs=1e-6)


class TestRandom:
    def test_it_is_seeded_and_in_order(self):
        options = RehearsalOptions(style="random", most_sentences=4)
        drawn = single_sentences(document(30), options, 1)
        assert drawn == single_sentences(document(30), options, 1)
        assert drawn != single_sentences(document(30), options, 2)
        order = [int(text.split("number")[1].split()[0]) for text in drawn]
        assert len(order) == 4
        assert order == sorted(set(order))


def test_the_set_of_tokens_has_each_word_once_without_stop_words():
    text = Document("d", "The Otter", "The otter and the Heron; an otter again.")
    assert token_set(text, RehearsalOptions(), 0) == ["otter heron again"]
    assert token_set(Document("d", "", "the of"), RehearsalOptions(), 0) == []
    options = RehearsalOptions(language="none")
    assert token_set(Document("d", "", "検索検索"), options, 0) == ["検索 索検"]


@pytest.mark.parametrize(
    "options",
    [
        {"document": -1.0},
        {"passages": float("nan")},
        {"document": 0.0},
        {"style": "best"},
        {"most_passages": 0},
        {"most_sentences": 0},
        {"passage_sentences": 0},
        {"stride": 0},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError):
        RehearsalOptions(**options)
