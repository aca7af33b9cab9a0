"""Sixty documents about animals, each with a labeled question."""

from __future__ import annotations

from pathlib import Path

from data_prep.dataset import Dataset, Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset

ANIMALS = ["otter", "pika", "vole", "heron", "newt", "lynx", "stoat", "mole", "hare", "shrew"]


def document(number: int) -> Document:
    return Document(
        f"d{number}",
        f"{ANIMALS[number % 10].title()} {number}",
        f"The {ANIMALS[number % 10]} of valley {number} eats berry{number} near the bridge. "
        f"It was seen in 19{number:02d} by a ranger.",
    )


DOCUMENTS = [document(number) for number in range(60)]


def write(path: Path, questions: int = 60) -> Dataset:
    queries = [
        Query(f"q{number}", f"what does the {ANIMALS[number % 10]} of valley {number} eat?")
        for number in range(questions)
    ]
    qrels = [Qrel(f"q{number}", f"d{number}", 1, "train") for number in range(questions)]
    return write_dataset(path, InMemorySource(DOCUMENTS, queries, qrels, name="animals"))
