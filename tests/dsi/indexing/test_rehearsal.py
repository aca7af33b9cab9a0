"""Inputs of the indexing task, at the given ratios."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import small

from data_prep.dataset import Document, InMemorySource
from data_prep.dataset_writer import write_dataset
from data_prep.rehearsal import RehearsalOptions
from docids.table import DocidTable
from dsi.data.batching import Batches
from dsi.data.examples import gather_examples, task_proportions
from dsi.data.options import MixOptions
from dsi.index_folder import versions
from dsi.indexing.build import train_index
from dsi.text_encoders.text_encoder import TextEncoder
from dsi.text_encoders.tokenized_corpus import TokenizedCorpus

DOCUMENTS = [
    Document(f"d{n}", f"Title{n}", " ".join(f"Word{n}x{s} stands here." for s in range(9)))
    for n in range(4)
]
MIX = MixOptions(indexing=0.8, pseudo=0.2, labeled=0.0, document_length=100)


class Words(TextEncoder):
    """One token a word, numbered by first appearance."""

    def __init__(self):
        self.seen = {}

    def encode(self, texts, max_length):
        lines = [text.split()[:max_length] for text in texts]
        return [[self.seen.setdefault(word, len(self.seen)) for word in line] for line in lines]

    def save(self, folder):
        raise AssertionError("never saved")

    def decode(self, line):
        names = list(self.seen)
        return " ".join(names[token] for token in line.tolist())


@pytest.fixture
def gather(tmp_path):
    dataset = write_dataset(tmp_path / "set", InMemorySource(DOCUMENTS))
    # The rows of the table are not in corpus order.
    table = DocidTable.from_sequences(
        ["d2", "d0", "d3", "d1"], [(2,), (3,), (4,), (5,)], alphabet_size=6, kind="test"
    )
    words = Words()

    def of(mix=MIX, **options):
        tokens = words.encode([DOCUMENTS[n].text for n in (2, 0, 3, 1)], 1000)
        corpus = TokenizedCorpus(table, words, [], tokens)
        found = gather_examples(
            dataset, corpus, mix, generator=None, seed=0,
            rehearsal=RehearsalOptions(**options),
        )  # fmt: skip
        return {
            task: [(int(each.rows[n]), words.decode(each.line(n))) for n in range(len(each))]
            for task, each in found.items()
        }

    return of


def test_the_documents_alone_are_the_default(gather):
    assert set(gather()) == {"indexing"}


def test_every_content_is_a_task_of_its_own_over_the_rows_of_the_table(gather):
    found = gather(passages=1.0, sentences=1.0, tokens=1.0)
    assert set(found) == {"indexing", "indexing/passages", "indexing/sentences", "indexing/tokens"}
    first = [text for row, text in found["indexing/sentences"] if row == 1]
    assert first == [f"Word0x{s} stands here." for s in range(6)]
    passages = [text for row, text in found["indexing/passages"] if row == 0]
    assert [text.split()[0] for text in passages] == ["Word2x0", "Word2x2", "Word2x4"]
    assert len(found["indexing/tokens"]) == 4


def test_texts_are_cut_at_the_length_of_documents(gather):
    mix = dataclasses.replace(MIX, document_length=2)
    found = gather(mix, document=0.0, passages=1.0)
    assert set(found) == {"indexing/passages"}
    assert {len(text.split()) for _, text in found["indexing/passages"]} == {2}


def test_without_a_share_of_the_indexing_task_nothing_is_rehearsed(gather):
    with pytest.raises(Exception, match="nothing to train on"):
        gather(MixOptions(indexing=0.0, pseudo=1.0), passages=1.0)


def test_shares_are_those_that_were_asked_for():
    shares = task_proportions(MIX, RehearsalOptions(document=1, passages=2, sentences=1))
    assert shares == pytest.approx(
        {
            "indexing": 0.2,
            "indexing/passages": 0.4,
            "indexing/sentences": 0.2,
            "indexing/tokens": 0.0,
            "pseudo": 0.2,
            "labeled": 0.0,
        }
    )


def test_batches_keep_the_stated_ratios(tmp_path):
    dataset = write_dataset(tmp_path / "set", InMemorySource(DOCUMENTS))
    table = DocidTable.from_sequences(
        dataset.doc_ids, [(2,), (3,), (4,), (5,)], alphabet_size=6, kind="test"
    )
    words = Words()
    rehearsal = RehearsalOptions(document=1, passages=2, sentences=1)
    mix = dataclasses.replace(MIX, pseudo=0.0)
    corpus = TokenizedCorpus(table, words, [], words.encode([d.text for d in DOCUMENTS], 99))
    examples = gather_examples(dataset, corpus, mix, generator=None, seed=0, rehearsal=rehearsal)
    batches = Batches(examples, task_proportions(mix, rehearsal), 10, seed=0)
    drawn = np.sum([batches.counts(step) for step in range(100)], axis=0)
    assert dict(zip(batches.tasks, drawn.tolist(), strict=True)) == {
        "indexing": 250,
        "indexing/passages": 500,
        "indexing/sentences": 250,
    }


def test_an_index_is_trained_on_them(dataset, tmp_path):
    options = small.options(
        mix__indexing=1.0,
        mix__pseudo=0.0,
        mix__labeled=0.0,
        loop__steps=3,
        rehearsal=RehearsalOptions(document=0, passages=1, sentences=1, style="summary"),
    )
    manifest = train_index(dataset, tmp_path / "index", options)
    kept = versions.Manifest.load(versions.folder(tmp_path / "index", "0001")).configuration
    assert manifest.metrics["steps"] == 3
    assert kept["options"]["rehearsal"]["style"] == "summary"
