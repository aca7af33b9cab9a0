"""What do thirty updates in a row do to an index: its size, their time, and how it ranks?

    python benchmarks/thirty_updates.py
    python benchmarks/thirty_updates.py --dataset squad-dev=SOURCE --documents 600

The default model. Half of the documents are the first training; thirty steps follow, of four kinds
in turn: an addition (a twentieth of the rest), a change of ten texts, a deletion of five
documents, and an addition that a rollback takes back. Two versions are kept (`dsi prune --keep 2`).
After each step, the test queries of all live documents are searched. At the end an index is
trained afresh on the same documents. The result is in `results/thirty_updates.jsonl`.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from record import cell, show

from data_prep.dataset import Dataset, Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from dsi import Index
from dsi.commands.prepare import prepare
from dsi.index_folder import versions
from dsi.indexing.build import train_index
from dsi.indexing.options import TrainingOptions
from dsi.updating.delete import delete_documents
from dsi.updating.options import UpdateOptions
from dsi.updating.prune import prune_versions, used_bytes
from dsi.updating.update import update_index

STEPS, KEPT, CHANGED, DELETED, SHARE = 30, 2, 10, 5, 20
KINDS = ("addition", "change", "deletion", "addition and rollback")


def main() -> None:
    """Measures, unless it has been measured, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="docstrings=docstrings", metavar="NAME=SOURCE")
    parser.add_argument("--documents", type=int, default=600, help="take only the first so many")
    arguments = parser.parse_args()
    name, source = arguments.dataset.split("=", 1)
    label = f"{name}-{arguments.documents}docs"
    found = cell("thirty_updates", label, lambda: _measure(source, arguments.documents))
    show([*found["steps"], found["fresh"]], ["step", "documents", "Hits@10", "MB", "seconds"])


class _Run:
    """The index and what its documents are now.

    Args:
        dataset: All documents and queries.
        count: Use only the first so many.
        folder: A scratch folder.
    """

    def __init__(self, dataset: Dataset, count: int, folder: Path) -> None:
        self.all = [
            document for _, document in zip(range(count), dataset.documents(), strict=False)
        ]
        self.dataset = dataset
        self.folder = folder
        self.index = folder / "index"
        self.live = {document.doc_id: document for document in self.all[: count // 2]}
        self.waiting = self.all[count // 2 :]
        self.share = max(1, len(self.waiting) // SHARE)

    def written(self, documents: Iterable[Document], splits: tuple[str, ...]) -> Dataset:
        """Writes documents with their queries of some splits."""
        kept = {document.doc_id: document for document in documents}
        texts = self.dataset.query_texts()
        qrels = [
            Qrel(query_id, doc_id, relevance, split)
            for split in splits
            for query_id, judged in self.dataset.qrels_of(split).items()
            for doc_id, relevance in judged.items()
            if doc_id in kept
        ]
        queries = [Query(query_id, texts[query_id]) for query_id in {q.query_id for q in qrels}]
        place = Path(tempfile.mkdtemp(dir=self.folder)) / "dataset"
        return write_dataset(
            place, InMemorySource(list(kept.values()), queries, qrels, name="part")
        )

    def step(self, number: int) -> str:
        """Makes one step; returns its kind."""
        kind = KINDS[number % len(KINDS)]
        if kind.startswith("addition"):
            added, self.waiting = self.waiting[: self.share], self.waiting[self.share :]
            update_index(self.index, self.written(added, ()), UpdateOptions())
            if "rollback" in kind:
                versions.rollback(self.index)
                self.waiting = added + self.waiting
            else:
                self.live |= {document.doc_id: document for document in added}
        elif kind == "change":
            picked = list(self.live)[number :: max(1, len(self.live) // CHANGED)][:CHANGED]
            changed = [
                dataclasses.replace(
                    self.live[doc_id], text=f"{self.live[doc_id].text} Revised in step {number}."
                )
                for doc_id in picked
            ]
            update_index(self.index, self.written(changed, ()), UpdateOptions())
            self.live |= {document.doc_id: document for document in changed}
        else:
            gone = list(self.live)[number::7][:DELETED]
            delete_documents(self.index, gone, audit=False)
            for doc_id in gone:
                del self.live[doc_id]
        return kind

    def hits(self, index: Path) -> float:
        """Returns Hits@10 of the test queries of live documents."""
        texts = self.dataset.query_texts()
        pairs = [
            (texts[query_id], wanted)
            for query_id, judged in self.dataset.qrels_of("test").items()
            if (wanted := set(judged) & set(self.live))
        ]
        opened = Index.open(index, "cpu")
        assert len(opened) == len(self.live)
        found = opened.search([text for text, _ in pairs], k=10)
        right = [
            any(hit.doc_id in wanted for hit in hits)
            for hits, (_, wanted) in zip(found, pairs, strict=True)
        ]
        return sum(right) / len(right)


def _measure(source: str, count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if (Path(source) / "dataset.json").is_file():
            dataset = Dataset.open(Path(source))
        else:
            prepare(source, out=folder / "all")
            dataset = Dataset.open(folder / "all")
        run = _Run(dataset, count, folder)
        rows = []

        def note(step: str, seconds: float, index: Path) -> None:
            live = versions.folder(index, versions.live(index))
            rows.append(
                {
                    "step": step,
                    "documents": len(run.live),
                    "Hits@10": run.hits(index),
                    "MB": used_bytes(index) / 1e6,
                    "MB of the live version": used_bytes(live) / 1e6,
                    "seconds": seconds,
                }
            )

        def timed(work: Any) -> float:
            began = time.perf_counter()
            work()
            return time.perf_counter() - began

        first = run.written(run.live.values(), ("train", "dev"))
        note(
            "first training",
            timed(lambda: train_index(first, run.index, TrainingOptions())),
            run.index,
        )
        for number in range(STEPS):
            kinds: list[str] = []
            seconds = timed(lambda number=number, kinds=kinds: kinds.append(run.step(number)))
            prune_versions(run.index, KEPT)
            note(f"{number + 1} {kinds[0]}", seconds, run.index)
        again = folder / "again"
        whole = run.written(run.live.values(), ("train", "dev"))
        seconds = timed(lambda: train_index(whole, again, TrainingOptions()))
        note("fresh training", seconds, again)
        return {
            "settings": {"documents": count, "kept": KEPT, "dataset": dataset.info.name},
            "steps": rows[:-1],
            "fresh": rows[-1],
        }


if __name__ == "__main__":
    main()
