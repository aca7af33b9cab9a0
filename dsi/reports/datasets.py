"""Sections of a page about datasets: the card of one, or of the corpora of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from data_prep.dataset import Dataset
from data_prep.dataset_statistics import card_rows, read_card
from data_prep.passages import document_of
from dsi.command_line.command_report import shown
from dsi.reports.page import Cell, Example, Heading, examples, facts, remark, section, table

_EXAMPLES = 3


def dataset_section(dataset: Dataset, split: str) -> str:
    """Returns the card of a dataset with its warnings, and queries of a split as examples."""
    card = read_card(dataset)
    rows = [(what, shown(value)) for what, value in card_rows(dataset, card)]
    texts = dataset.query_texts()
    first = dict(islice(dataset.qrels_of(split).items(), _EXAMPLES))
    relevant_ids = {
        doc_id for judged in first.values() for doc_id, grade in judged.items() if grade > 0
    }
    documents = {each.doc_id: each for each in dataset.documents() if each.doc_id in relevant_ids}
    cards = [
        Example(
            texts[query],
            [
                (f"relevant ({document_of(doc_id)})", documents[doc_id])
                for doc_id, grade in islice(judged.items(), _EXAMPLES)
                if grade > 0
            ],
        )
        for query, judged in first.items()
    ]
    return section(
        f"The dataset, {dataset.info.name}",
        *(remark(f"Warning: {warning}.") for warning in card.warnings),
        facts(rows),
        examples(cards),
    )


def corpora_section(corpora: Sequence[Dataset]) -> str:
    """Returns the sizes of D0 and its increments, with the warnings of their cards."""
    rows, warnings = [], []
    for number, corpus in enumerate(corpora):
        card, info = read_card(corpus), corpus.info
        values = [info.documents, int(card.words["median"])]
        values += [len(corpus.qrels_of(split)) for split in ("train", "test")]
        rows.append([Cell(f"D{number}"), *(Cell(shown(value)) for value in values)])
        warnings += [remark(f"Warning: D{number}: {warning}.") for warning in card.warnings]
    headings = ("corpus", "documents", "words of a document, median", "training queries", "tests")
    return section(
        "The corpora",
        *warnings,
        table([Heading(name) for name in headings], rows),
    )
