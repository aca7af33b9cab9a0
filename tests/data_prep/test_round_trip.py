"""Which pseudo-queries retrieve their document, and which of them are kept."""

from typing import ClassVar

import numpy as np
import pytest

from data_prep import generate
from data_prep.dataset import Document, InMemorySource
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from data_prep.files import read_json
from data_prep.generate import are_reused, count_by_document, generate_queries
from data_prep.generators import GENERATORS, Generator, GeneratorOptions, PseudoQuery
from data_prep.generators.extractive import ExtractiveOptions
from data_prep.round_trip import Filter, FilterOptions, measure_round_trip

DOCUMENTS = [
    Document("a", "Otter", "The otter swims in the river."),
    Document("b", "Heron", "The heron stands in the river."),
    Document("c", "Newt", "The newt hides."),
]
WRITTEN = [
    [PseudoQuery("otter swims"), PseudoQuery("heron river"), PseudoQuery("zebra")],
    [PseudoQuery("the river", "x"), PseudoQuery("heron")],
    [],
]


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "set", InMemorySource(DOCUMENTS))


class Fixed(Generator):
    """Writes what the test says."""

    options_class = GeneratorOptions
    queries: ClassVar[dict[str, list[str]]] = {}

    def __init__(self, dataset, options):
        pass

    def generate(self, document):
        return self.queries[document.doc_id]


@pytest.fixture
def fixed(monkeypatch):
    monkeypatch.setitem(GENERATORS._entries, "fixed", Fixed)
    Fixed.queries = {
        document.doc_id: [query.text for query in queries]
        for document, queries in zip(DOCUMENTS, WRITTEN, strict=True)
    }
    return Fixed


def test_without_a_filter_all_are_kept(dataset):
    assert not FilterOptions()
    assert Filter(dataset, FilterOptions()).keep(DOCUMENTS, WRITTEN) == WRITTEN


def test_only_those_that_find_their_document_are_kept(dataset):
    kept = Filter(dataset, FilterOptions(round_trip=1)).keep(DOCUMENTS, WRITTEN)
    assert [[query.text for query in queries] for queries in kept] == [
        ["otter swims"],
        ["heron"],
        [],
    ]
    two = Filter(dataset, FilterOptions(round_trip=2)).keep(DOCUMENTS, WRITTEN)
    assert two[1] == WRITTEN[1]
    assert [query.text for query in two[0]] == ["otter swims", "heron river"]


def test_the_best_by_a_cross_encoder_are_kept_in_their_order(dataset, monkeypatch):
    class Longest:
        def __init__(self, name, where):
            assert (name, where) == ("somewhere", "--filter.cross_encoder")

        def score(self, queries, documents):
            assert set(documents) == {"Otter The otter swims in the river."}
            return np.array([len(query) for query in queries], np.float32)

    monkeypatch.setattr("data_prep.cross_encoder.CrossEncoder", Longest)
    options = FilterOptions(cross_encoder="somewhere", best=2)
    kept = Filter(dataset, options).keep(DOCUMENTS, WRITTEN)
    assert [query.text for query in kept[0]] == ["otter swims", "heron river"]
    assert kept[1] == WRITTEN[1], "no more than asked for: none is scored"


def test_a_filter_is_part_of_what_decides_the_queries(dataset, fixed):
    generate_queries(dataset, "fixed", keep=FilterOptions(round_trip=1))
    assert list(dataset.pseudo_queries("fixed")["text"]) == ["otter swims", "heron"]
    made = read_json(dataset.path / "pseudo" / "fixed" / "generator.json")
    assert made["filter"]["round_trip"] == 1
    assert are_reused(dataset, "fixed")
    generate_queries(dataset, "fixed", keep=FilterOptions())
    assert len(dataset.pseudo_queries("fixed")) == 5
    assert not are_reused(dataset, "fixed")


def test_a_filtered_run_that_is_killed_goes_on(dataset, fixed, monkeypatch):
    monkeypatch.setattr(generate, "SHARD_DOCUMENTS", 1)
    original = Fixed.generate

    def dying(self, document):
        if document.doc_id == "b":
            raise KeyboardInterrupt
        return original(self, document)

    monkeypatch.setattr(Fixed, "generate", dying)
    with pytest.raises(KeyboardInterrupt):
        generate_queries(dataset, "fixed", keep=FilterOptions(round_trip=1))
    monkeypatch.setattr(Fixed, "generate", original)
    assert generate_queries(dataset, "fixed", keep=FilterOptions(round_trip=1)).written == 2
    assert list(dataset.pseudo_queries("fixed")["text"]) == ["otter swims", "heron"]


def test_the_measure_is_counted_by_hand(dataset, fixed):
    generate_queries(dataset, "fixed")
    # otter swims: 1. heron river: 2. zebra: none. the river: 2 of 2, for a has it first. heron: 1.
    measured = measure_round_trip(dataset, "fixed", sample=100)
    assert measured == {
        "queries": 5,
        "Success@1": pytest.approx(2 / 5),
        "Success@10": pytest.approx(4 / 5),
        "RR": pytest.approx((1 + 1 / 2 + 0 + 1 / 2 + 1) / 5),
    }
    assert measure_round_trip(dataset, "fixed", sample=2)["queries"] == 2


def test_documents_are_counted(dataset, fixed):
    generate_queries(dataset, "fixed")
    counts = count_by_document(dataset, "fixed")
    assert (counts.without, counts.fewest, counts.most) == (1, 2, 3)
    assert counts.mean == pytest.approx(5 / 3)


def test_extractive_queries_find_their_documents(dataset):
    generate_queries(dataset, "extractive", ExtractiveOptions(per_doc=5, fewest_keywords=3))
    assert measure_round_trip(dataset, "extractive", sample=1000)["Success@1"] > 0.6


@pytest.mark.parametrize(
    "options",
    [{"round_trip": -1}, {"best": -1}, {"best": 3}, {"cross_encoder": "x"}],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError):
        FilterOptions(**options)


def test_queries_of_options_that_a_training_does_not_have_are_kept(dataset, capsys):
    generate_queries(dataset, "extractive", ExtractiveOptions(per_doc=2, language="german"))
    assert are_reused(dataset, "extractive")
    assert "generated with language german" in capsys.readouterr().err
    generate_queries(dataset, "extractive", ExtractiveOptions(per_doc=2))
    assert not are_reused(dataset, "extractive")
