import pytest

from data_prep.dataset import Dataset, Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset


@pytest.fixture
def small(tmp_path) -> Dataset:
    """Four documents; those about cats and dogs have a training query."""
    return write_dataset(
        tmp_path / "small",
        InMemorySource(
            [
                Document("cat", "Cats", "Cats are sleeping on the mat."),
                Document("dog", "Dogs", "Dogs bark at trees."),
                Document("fish", "Fish", "Fishes swim in the sea."),
                Document("sea", "Sea", "The sea is blue. Fishes swim in it."),
            ],
            [
                Query("t1", "feline purring"),
                Query("t2", "canine walk"),
                Query("v1", "what barks"),
                Query("q1", "who sleeps on mats?"),
                Query("q2", "feline"),
                Query("q3", "swimming fish"),
                Query("q4", "zzz the"),
            ],
            [
                Qrel("t1", "cat", 1, "train"),
                Qrel("t2", "dog", 1, "train"),
                Qrel("t2", "fish", 0, "train"),
                Qrel("v1", "dog", 1, "dev"),
                Qrel("q1", "cat", 1, "test"),
                Qrel("q2", "cat", 1, "test"),
                Qrel("q3", "fish", 1, "test"),
                Qrel("q4", "sea", 1, "test"),
            ],
            name="small",
        ),
    )
