"""The card of a dataset counts problems, and warns about them."""

import json
import sys
from dataclasses import asdict

import pytest

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_statistics import card_rows, dataset_statistics, read_card, write_card
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from data_prep.languages import TOO_SHORT, detector, script_of, shares


@pytest.fixture
def dataset(tmp_path):
    documents = [
        Document("1", "Otters", "they swim"),
        Document("2", "OTTERS", "they  swim"),
        Document("3", "otters", "they sleep all day"),
        Document("4", "", "no title"),
    ]
    queries = [Query("a", "Who swims?"), Query("b", "who  swims?"), Query("c", "who sleeps?")]
    qrels = [Qrel("a", "1", 1, "train"), Qrel("b", "1", 1, "test"), Qrel("c", "3", 1, "test")]
    return write_dataset(tmp_path / "ds", InMemorySource(documents, queries, qrels))


def test_the_card_by_hand(dataset):
    card = dataset_statistics(dataset)
    assert card.words == {"mean": 2.5, "median": 2.0, "longest": 4.0}
    assert card.query_words == {"mean": 2.0, "median": 2.0, "longest": 2.0}
    assert (card.duplicate_texts, card.shared_titles, card.empty_texts) == (1, 3, 0)
    assert card.queries_per_document == {"train": 1.0, "test": 1.0}
    assert card.seen == {"test": 0.5}
    assert card.leaks == {"test": 1}
    assert card.quoted == {"test": 0}
    assert len(card.warnings) == 3


def test_the_rows_that_scripts_search_for_keep_their_names(dataset):
    rows = dict(card_rows(dataset, dataset_statistics(dataset)))
    for split, count in dataset.info.qrels.items():
        assert rows[f"judgements ({split})"] == count


def test_a_clean_dataset_is_warned_of_nothing(tmp_path):
    source = InMemorySource([Document("1", "A", "x"), Document("2", "B", "y")])
    card = dataset_statistics(write_dataset(tmp_path / "ds", source))
    assert card.warnings == []
    assert card.queries_per_document == card.seen == card.leaks == card.query_words == {}


LONG = "the otter has a thick coat and sleeps in the kelp"


@pytest.mark.parametrize(
    ("text", "query", "quotes"),
    [
        ("Otters swim.", "is it true that otters  SWIM. or not", True),
        (f"First, {LONG}.", LONG, False),  # the last word is "kelp." in the document
        (f"First, {LONG} bed.", LONG, True),
        (f"First, {LONG} bed.", "has a thick coat", False),  # too short to be a quotation
        ("", "otters", False),
    ],
)
def test_queries_that_repeat_their_document_are_counted(tmp_path, text, query, quotes):
    documents = [Document("1", "Otters", text), Document("2", "", query)]
    source = InMemorySource(documents, [Query("q", query)], [Qrel("q", "1", 1, "test")])
    card = dataset_statistics(write_dataset(tmp_path / "ds", source))
    assert card.quoted == {"test": int(quotes)}
    assert any("repeat their document" in warning for warning in card.warnings) == quotes
    assert any("no text" in warning for warning in card.warnings) == (not text)


def test_the_card_is_kept_with_the_content_it_is_of(dataset, tmp_path):
    card = write_card(dataset)
    kept = json.loads((dataset.path / "card.json").read_text())
    assert kept == {"content_hash": dataset.info.content_hash, **asdict(card)}
    (dataset.path / "card.json").write_text(json.dumps({**kept, "empty_texts": 7}))
    assert read_card(dataset).empty_texts == 7, "it is read, not made again"
    again = write_dataset(dataset.path, InMemorySource([Document("1", "A", "x")]))
    assert not (dataset.path / "card.json").exists(), "other content has another card"
    assert read_card(again) == dataset_statistics(again)
    (dataset.path / "card.json").write_text(
        json.dumps({"content_hash": again.info.content_hash, "color": "blue"})
    )
    with pytest.raises(InputError, match=r"the dataset card is damaged. Remove it"):
        read_card(again)


def test_scripts_are_those_of_most_letters():
    assert script_of("Wer schläft? Кто?") == "Latin"
    assert script_of("Кто спит?") == "Cyrillic"
    assert script_of("眠る猫") == "Cjk"
    assert script_of("1234 !?") == TOO_SHORT


def test_shares_begin_with_the_most_common():
    assert list(shares(["abc", "где", "def"], script_of).items()) == [
        ("Latin", 2 / 3),
        ("Cyrillic", 1 / 3),
    ]


def test_languages_are_told_where_the_package_is_installed():
    pytest.importorskip("py3langid")
    name, detect = detector()
    assert name == "languages"
    assert detect("Der schnelle braune Fuchs springt über den faulen Hund.") == "de"
    assert detect("The quick brown fox jumps over the lazy dog, and sleeps.") == "en"
    assert detect("x = 1") == TOO_SHORT


def test_without_the_package_scripts_are_told(monkeypatch, dataset):
    monkeypatch.setitem(sys.modules, "py3langid", None)
    card = dataset_statistics(dataset)
    assert (card.languages_by, card.languages) == ("scripts", {"Latin": 1.0})
