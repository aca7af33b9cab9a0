"""Pseudo-queries: extracted from the document, reproducible, short, and never from dev or test."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from data_prep.generators import GENERATORS
from data_prep.generators.document_terms import (
    InverseDocumentFrequency,
    sample_positions,
    split_terms,
    title_and_sentences,
)
from data_prep.generators.extractive import Extractive, ExtractiveOptions
from data_prep.generators.selective import Selective, SelectiveOptions

ANIMALS = ["otter", "pika", "vole", "heron", "newt", "lynx", "stoat", "mole", "hare", "shrew"]
DOCUMENTS = [
    Document(
        f"d{n}",
        f"{ANIMALS[n % 10].title()} Number {n}",
        f"The {ANIMALS[n % 10]} of valley {n} is fond of berry{n} and of cold water. "
        f"In 19{n:02d} it was seen by ranger Smith{n} near the old stone bridge. "
        "Nobody knows why this happened.",
    )
    for n in range(60)
]


def make(path, documents=DOCUMENTS, questions=0, split="train"):
    queries, qrels = [], []
    for n, document in enumerate(documents[:questions]):
        queries.append(Query(f"q{n}", f"What is the favorite of {document.title} berry{n}?"))
        qrels.append(Qrel(f"q{n}", document.doc_id, 1, split))
    return write_dataset(path, InMemorySource(documents, queries, qrels))


@pytest.fixture
def dataset(tmp_path):
    return make(tmp_path / "set")


class TestTerms:
    def test_words_keep_their_case_and_are_counted_without_it(self):
        sentence = split_terms("The Otter's U-turn.")
        assert sentence.terms == ["The", "Otter's", "U", "turn"]
        assert sentence.keys == ["the", "otter's", "u", "turn"]
        assert sentence.join([1, 3]) == "Otter's turn"

    def test_scripts_without_blanks_are_cut_into_pairs_of_characters(self):
        sentence = split_terms("生成检索模型 T5模型")
        assert sentence.terms == ["生成", "检索", "模型", "T5", "模型"]
        assert sentence.join([0, 1, 2]) == "生成检索模型"
        assert sentence.join([0, 2]) == "生成 模型"
        assert sentence.join([2, 3, 4]) == "模型 T5模型"

    def test_idf_is_the_logarithm_of_the_inverse_frequency(self):
        idf = InverseDocumentFrequency(
            [Document("1", "Otter", "swims swims"), Document("2", "", "otter dives")]
        )
        assert idf("otter") == pytest.approx(np.log(2))
        assert idf("swims") == idf("never seen") == pytest.approx(np.log(3))

    def test_a_document_without_text_is_its_title(self):
        title, body = title_and_sentences(Document("1", "Only a title", "..."))
        assert body == [title]

    @given(
        st.lists(st.lists(st.sampled_from([0.0, 1.0, 5.0]), min_size=4, max_size=4), min_size=1),
        st.integers(0, 6),
    )
    def test_positions_are_drawn_once_and_in_order_and_never_without_weight(self, weights, size):
        table = np.array(weights)
        rng = np.random.default_rng(0)
        drawn = sample_positions(rng, table, np.full(len(table), size))
        for row, positions in zip(table, drawn, strict=True):
            assert positions == sorted(set(positions))
            assert len(positions) == min(size, int((row > 0).sum()))
            assert all(row[position] > 0 for position in positions)

    def test_positions_follow_the_weights(self):
        weights = np.tile([1.0, 3.0], (20_000, 1))
        drawn = sample_positions(np.random.default_rng(1), weights, np.ones(20_000, dtype=int))
        assert np.mean([positions[0] for positions in drawn]) == pytest.approx(0.75, abs=0.01)


class TestExtractive:
    def test_the_same_seed_gives_the_same_queries_whatever_else_is_asked(self, dataset):
        first, second = (Extractive(dataset, ExtractiveOptions(seed=3)) for _ in range(2))
        first.generate(DOCUMENTS[0])
        assert first.generate(DOCUMENTS[7]) == second.generate(DOCUMENTS[7])
        other = Extractive(dataset, ExtractiveOptions(seed=4))
        assert other.generate(DOCUMENTS[7]) != second.generate(DOCUMENTS[7])

    def test_there_are_as_many_as_asked_for_and_no_two_are_equal(self, dataset):
        for count in (1, 5, 20):
            queries = Extractive(dataset, ExtractiveOptions(per_doc=count)).generate(DOCUMENTS[3])
            assert len(queries) == len(set(queries)) == count

    def test_keywords_are_short_and_of_one_sentence_in_its_order(self, dataset):
        options = ExtractiveOptions(
            keyword_fraction=1, span_fraction=0, title_fraction=0, per_doc=50
        )
        _, body = title_and_sentences(DOCUMENTS[5])
        for query in Extractive(dataset, options).generate(DOCUMENTS[5]):
            terms = query.split()
            assert 2 <= len(terms) <= 6
            assert len(set(terms)) == len(terms)
            assert any(_is_subsequence(terms, sentence.terms) for sentence in body)

    def test_rare_words_come_more_often_and_stop_words_rarely(self, dataset):
        options = ExtractiveOptions(
            keyword_fraction=1, span_fraction=0, title_fraction=0, per_doc=200
        )
        said = " ".join(Extractive(dataset, options).generate(DOCUMENTS[5])).split()
        assert said.count("berry5") > said.count("cold") > said.count("and")

    def test_title_words_come_first_and_only_now_and_then(self, dataset):
        options = ExtractiveOptions(
            keyword_fraction=1, span_fraction=0, title_fraction=0.5, per_doc=60
        )
        queries = Extractive(dataset, options).generate(DOCUMENTS[5])
        with_title = [query for query in queries if query.split()[0] in ("Lynx", "Number", "5")]
        assert 10 < len(with_title) < 50

    def test_spans_are_words_in_a_row(self, dataset):
        options = ExtractiveOptions(keyword_fraction=0, span_fraction=1, per_doc=30)
        _, body = title_and_sentences(DOCUMENTS[5])
        for query in Extractive(dataset, options).generate(DOCUMENTS[5]):
            assert 3 <= len(query.split()) <= 10
            assert any(query in sentence.join(range(len(sentence.terms))) for sentence in body)

    def test_sentences_are_whole(self, dataset):
        options = ExtractiveOptions(keyword_fraction=0, span_fraction=0)
        _, body = title_and_sentences(DOCUMENTS[5])
        assert set(Extractive(dataset, options).generate(DOCUMENTS[5])) <= {s.text for s in body}

    def test_one_form_can_stand_alone_for_every_kind_of_document(self, tmp_path):
        documents = [
            Document("word", "", "otter"),
            Document("title", "Only Title", ""),
            Document("marks", "", "?!"),
            Document("chinese", "检索", "生成检索用一个模型记住所有文档。它用标识符回答查询。"),
            Document("long", "", "word " * 3000),
        ]
        generator = Extractive(make(tmp_path / "odd", documents), ExtractiveOptions())
        found = {document.doc_id: generator.generate(document) for document in documents}
        assert found["word"] == ["otter"]
        assert found["title"]
        assert found["marks"] == []
        assert len(found["chinese"]) == 20
        assert all(len(query) <= 60 for query in found["chinese"])
        assert found["long"]

    @pytest.mark.parametrize(
        "options",
        [
            {"per_doc": 0},
            {"seed": -1},
            {"keyword_fraction": 0.8, "span_fraction": 0.3},
            {"title_fraction": 1.5},
            {"fewest_keywords": 7},
            {"stopword_weight": -1.0},
        ],
    )
    def test_impossible_options_are_refused(self, options):
        with pytest.raises(InputError):
            ExtractiveOptions(**options)


class TestSelective:
    def test_queries_are_like_the_training_queries(self, tmp_path):
        dataset = make(tmp_path / "set", questions=55)
        queries = [
            Selective(dataset, SelectiveOptions(per_doc=1, seed=seed)).generate(document)[0]
            for seed in range(2)
            for document in DOCUMENTS[45:]
        ]
        assert all(query.endswith("?") for query in queries)
        beginning = sum(query.startswith("What is the favorite of ") for query in queries)
        assert 0.8 < beginning / len(queries) < 1
        # Queries often contain titles and berries, but rarely rangers and bridges.
        assert sum("berry" in query for query in queries) > 15
        assert sum("Number" in query for query in queries) > 15
        assert sum("Smith" in query or "bridge" in query for query in queries) < 8

    def test_without_templates_only_words_of_the_document_are_left(self, tmp_path):
        dataset = make(tmp_path / "set", questions=55)
        generator = Selective(dataset, SelectiveOptions(template_fraction=0))
        document = DOCUMENTS[50]
        known = {word.lower() for word in f"{document.title} {document.text}".split()}
        for query in generator.generate(document):
            assert {word.lower() for word in query.rstrip("?").split()} <= {
                word.strip(".") for word in known
            }

    def test_it_is_deterministic(self, tmp_path):
        dataset = make(tmp_path / "set", questions=55)
        first, second = (Selective(dataset, SelectiveOptions()) for _ in range(2))
        first.generate(DOCUMENTS[1])
        assert first.generate(DOCUMENTS[58]) == second.generate(DOCUMENTS[58])

    @pytest.mark.parametrize(("questions", "split"), [(49, "train"), (60, "dev"), (60, "test")])
    def test_too_few_training_pairs_name_the_way_out(self, tmp_path, questions, split):
        dataset = make(tmp_path / "set", questions=questions, split=split)
        with pytest.raises(InputError, match="'extractive'"):
            Selective(dataset, SelectiveOptions())

    def test_dev_and_test_queries_change_nothing(self, tmp_path):
        def with_held_out(path, text):
            queries = [Query(f"q{n}", f"who saw {DOCUMENTS[n].title}?") for n in range(50)]
            qrels = [Qrel(f"q{n}", f"d{n}", 1, "train") for n in range(50)]
            held_out = [Query("t", text), Query("v", text)]
            judged = [Qrel("t", "d55", 1, "test"), Qrel("v", "d56", 1, "dev")]
            source = InMemorySource(DOCUMENTS, queries + held_out, qrels + judged)
            return Selective(write_dataset(path, source), SelectiveOptions())

        one = with_held_out(tmp_path / "a", "secret words")
        other = with_held_out(tmp_path / "b", "bridge stone old Smith55")
        assert one.generate(DOCUMENTS[55]) == other.generate(DOCUMENTS[55])

    def test_a_document_of_stop_words_has_none(self, tmp_path):
        dataset = make(tmp_path / "set", questions=55)
        assert Selective(dataset, SelectiveOptions()).generate(Document("x", "", "of the")) == []

    @pytest.mark.parametrize(
        "options", [{"template_fraction": 2}, {"elsewhere": -1}, {"shortest": 0}]
    )
    def test_impossible_options_are_refused(self, options):
        with pytest.raises(InputError):
            SelectiveOptions(**options)


def test_generators_are_found_by_name():
    assert {"extractive", "selective"} <= set(GENERATORS)
    with pytest.raises(InputError, match=r"Choose from: .*extractive.*selective"):
        GENERATORS["t5"]


def _is_subsequence(short, long):
    rest = iter(long)
    return all(term in rest for term in short)
