"""The card of a dataset counts problems, and warns about them."""

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_statistics import dataset_statistics
from data_prep.dataset_writer import write_dataset


def test_the_card_by_hand(tmp_path):
    documents = [
        Document("1", "Otters", "they swim"),
        Document("2", "OTTERS", "they  swim"),
        Document("3", "otters", "they sleep all day"),
        Document("4", "", "no title"),
    ]
    queries = [Query("a", "Who swims?"), Query("b", "who  swims?"), Query("c", "who sleeps?")]
    qrels = [Qrel("a", "1", 1, "train"), Qrel("b", "1", 1, "test"), Qrel("c", "3", 1, "test")]
    card = dataset_statistics(
        write_dataset(tmp_path / "ds", InMemorySource(documents, queries, qrels))
    )
    assert card.words == {"median": 2.0, "longest": 4.0}
    assert (card.duplicate_texts, card.shared_titles) == (1, 3)
    assert card.queries_per_document == {"train": 1.0, "test": 1.0}
    assert card.seen == {"test": 0.5}
    assert card.leaks == {"test": 1}
    assert len(card.warnings) == 3


def test_a_clean_dataset_is_warned_of_nothing(tmp_path):
    source = InMemorySource([Document("1", "A", "x"), Document("2", "B", "y")])
    card = dataset_statistics(write_dataset(tmp_path / "ds", source))
    assert card.warnings == []
    assert card.queries_per_document == card.seen == card.leaks == {}
