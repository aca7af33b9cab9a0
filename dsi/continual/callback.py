"""Evaluates all corpora so far during an update; one row per evaluation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.files import read_json_lines, write_json_lines
from dsi.continual.evaluation_queries import EvaluationQueries

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from dsi.objectives.base import Objective
    from dsi.updating.plan import Update


class EvaluationCallback:
    """Evaluates all corpora so far before an update and every few steps, and logs to a JSONL file.

    Args:
        evaluation_queries: Test queries of each corpus, the newest last.
        file: Output file, one row per evaluation.
        interval: Steps between evaluations.
        beams: Beam width; None for that of the index.

    Attributes:
        seconds: Duration of the evaluations.
    """

    def __init__(
        self,
        evaluation_queries: Sequence[EvaluationQueries],
        file: Path,
        interval: int,
        beams: int | None,
    ) -> None:
        self.evaluation_queries = evaluation_queries
        self.file = file
        self.interval = interval
        self.beams = beams
        self.seconds = 0.0

    def __call__(self, update: Update, model: PreTrainedModel) -> Objective:
        """Returns the term of zero loss that observes the model of an update."""
        return _objective_of(self, update, model)

    def write(self, step: int, corpora: list[dict[str, Any]]) -> None:
        """Adds a row; a step repeated after an interruption replaces its row."""
        rows = {row["step"]: row for row in read_curve(self.file)}
        rows[step] = {"step": step, "corpora": corpora}
        write_json_lines(self.file, [rows[number] for number in sorted(rows)])


def read_curve(file: Path) -> list[dict[str, Any]]:
    """Returns the evaluations during one update, oldest first; empty if there is no file."""
    return read_json_lines(file)


def _objective_of(
    callback: EvaluationCallback, update: Update, network: PreTrainedModel
) -> Objective:
    from docids.trie import Trie
    from dsi.objectives.base import Objective
    from dsi.search.torch_trie import TorchTrie
    from dsi.training.validation import DevQueries, ranks_of
    from dsi.updating.training import planned_steps

    table, steps = update.assignment.table, planned_steps(update)
    length, texts = update.manifest.query_length, update.training.mix.document_length
    queries = [
        DevQueries.of(
            some.queries, table.find(some.targets).tolist(), update.text, length, update.lexical
        )
        for some in callback.evaluation_queries
    ]
    documents = [
        DevQueries(
            update.text.encode_documents(some.texts, texts),
            table.find(some.doc_ids).tolist(),
            some.texts,
            update.lexical,
        )
        for some in callback.evaluation_queries
    ]
    beams = callback.beams or update.manifest.beams

    class CallbackObjective(Objective):
        name = "callback"

        def prepare(self, device: torch.device) -> None:
            self.trie = TorchTrie.from_trie(Trie.build(table), device)
            # Before any checkpoint: a run resumed from one already has this row.
            if not read_curve(callback.file):
                self.look(0)

        def after_step(self, model: torch.nn.Module, step: int) -> None:
            if step + 1 in (1, steps) or (step + 1) % callback.interval == 0:
                self.look(step + 1)

        def look(self, steps: int) -> None:
            began = time.perf_counter()
            rows = []
            for query_set, document_set in zip(queries, documents, strict=True):
                ranks = ranks_of(network, query_set, self.trie, beams)
                right = ranks_of(network, document_set, self.trie, beams) <= 1
                rows.append(
                    {
                        "Hits@1": float((ranks <= 1).mean()),
                        "Hits@10": float((ranks <= 10).mean()),
                        "indexed": "".join("1" if each else "0" for each in right.tolist()),
                    }
                )
            callback.write(steps, rows)
            callback.seconds += time.perf_counter() - began

    return CallbackObjective()
