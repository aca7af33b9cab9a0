"""What benchmarks of training share: a run as `dsi train` would make it, and a clock inside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsi.objectives.base import Objective

if TYPE_CHECKING:
    from dsi.indexing.options import TrainingOptions
    from dsi.training.loop import Run


class Clock(Objective):
    """Costs nothing and notes when every step ended.

    Attributes:
        ended: Seconds of `time.perf_counter` after each step.
        computed: Seconds of `time.process_time` after each step: what the process computed,
            whatever else the machine did meanwhile.
    """

    name = "clock"

    def __init__(self, watch: Callable[[Any, int], None] | None = None) -> None:
        super().__init__()
        self.ended: list[float] = []
        self.computed: list[float] = []
        self._watch = watch

    def after_step(self, model: Any, step: int) -> None:
        """Notes the time, then lets `watch` see the model."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ended.append(time.perf_counter())
        self.computed.append(time.process_time())
        if self._watch is not None:
            self._watch(model, step)
            self.ended[-1] = time.perf_counter()


def make_training_run(
    source: str, folder: Path, options: TrainingOptions, documents: int | None = None
) -> Run:
    """Returns what `dsi train` would hand to its loop, everything before that done.

    Args:
        source: What `dsi prepare` takes.
        folder: For the dataset and the run's files.
        options: Of the training.
        documents: How many, from the first; None for all.
    """
    from data_prep.dataset import Dataset
    from dsi.commands.prepare import prepare
    from dsi.indexing import build

    if not (folder / "dataset").is_dir():
        prepare(source, out=folder / "dataset")
    dataset = Dataset.open(folder / "dataset")
    if documents is not None:
        if not (folder / "part").is_dir():
            first_documents(dataset, folder / "part", documents)
        dataset = Dataset.open(folder / "part")
    work = folder / "run"
    work.mkdir(exist_ok=True)
    # The steps of `train_index` before the loop; a command's user never needs them alone.
    return build.make_training_run(
        dataset, work, options, build.prepare(dataset, work, options, None)
    )


def first_documents(whole: Any, path: Path, count: int) -> Any:
    """Writes the first documents of a dataset and the queries that are about them."""
    from itertools import islice

    from data_prep.dataset import InMemorySource, Qrel, Query
    from data_prep.dataset_writer import write_dataset

    documents = list(islice(whole.documents(), count))
    kept, texts = {document.doc_id for document in documents}, whole.query_texts()
    qrels = [
        Qrel(query_id, doc_id, relevance, split)
        for split in ("train", "dev", "test")
        for query_id, judged in whole.qrels_of(split).items()
        for doc_id, relevance in judged.items()
        if doc_id in kept
    ]
    queries = [
        Query(query_id, texts[query_id]) for query_id in dict.fromkeys(q.query_id for q in qrels)
    ]
    return write_dataset(path, InMemorySource(documents, queries, qrels, name="part"))
