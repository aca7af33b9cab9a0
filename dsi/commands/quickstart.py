"""`dsi quickstart`: runs the whole pipeline on a corpus that every machine has."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import command_line
from data_prep.marks import Seed, Whole
from dsi.command_line.command_report import Report, visible

if TYPE_CHECKING:
    from rich.console import Console

    from dsi.index import Hit

EXAMPLE_QUERIES = (
    "How do I find the shortest path in a graph?",
    "How do I parse an email message?",
    "How do I compute the eigenvalues of a symmetric matrix?",
)
_SHOWN = 3


def quickstart(
    *, out: Path = Path("quickstart"), steps: Whole | None = None, seed: Seed = 0
) -> Report:
    """Runs the whole pipeline on a corpus that every machine has.

    Nothing is downloaded. The corpus is the docstrings of the installed Python packages. The first
    sentence of each docstring is held out as the query that must retrieve it. The command prepares
    the corpus, builds an index from scratch, compares it with BM25 on the same queries, and
    searches for three example questions. If interrupted, run it again to resume.

    Args:
        out: Folder for the dataset and the index.
        steps: Training steps of the network; default: as in `dsi train`.
        seed: Random seed.
    """
    from data_prep.dataset import Dataset
    from dsi.commands.evaluate import evaluate
    from dsi.commands.prepare import prepare
    from dsi.distributed.processes import Processes
    from dsi.index import Index
    from dsi.indexing.build import train_index
    from dsi.indexing.options import TrainingOptions
    from dsi.training.options import LoopOptions

    began = time.monotonic()
    dataset, index = out / "dataset", out / "index"
    _print_step(1, f"preparing the docstrings of the installed packages: {dataset}")

    def prepared() -> None:
        if not (dataset / "dataset.json").is_file():
            prepare("docstrings", out=dataset)

    Processes().in_main_process(prepared)
    _print_step(2, f"assigning identifiers and training from scratch: {index}")
    options = TrainingOptions(seed=seed, loop=LoopOptions(steps=steps))
    train_index(Dataset.open(dataset), index, options)
    _print_step(3, "evaluating on the held-out queries, compared with BM25")
    evaluation = evaluate([index], dataset, baselines="bm25")
    _print_step(4, "searching for three questions")
    answers = Index.open(index).search(EXAMPLE_QUERIES, k=_SHOWN)
    return QuickstartReport(
        evaluation, dict(zip(EXAMPLE_QUERIES, answers, strict=True)), out, time.monotonic() - began
    )


def _print_step(step: int, what: str) -> None:
    print(f"[{step}/4] {what}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class QuickstartReport:
    """The evaluation, the answers to the example questions, and the next commands.

    Attributes:
        evaluation: The report of `dsi evaluate`.
        answers: Question -> the documents found.
        out: The folder of the quickstart.
        elapsed: Duration of this call in seconds.
    """

    evaluation: Report
    answers: Mapping[str, Sequence[Hit]]
    out: Path
    elapsed: float

    @property
    def data(self) -> dict[str, Any]:
        """The output of `dsi evaluate --json`, with the answers and the total seconds."""
        seconds = {**self.evaluation.data["seconds"], "quickstart": round(self.elapsed, 1)}
        answers = {
            question: [asdict(hit) for hit in hits] for question, hits in self.answers.items()
        }
        return {**self.evaluation.data, "seconds": seconds, "answers": answers}

    def show(self, console: Console) -> None:
        """Prints the table, the answers and the next commands."""
        self.evaluation.show(console)
        for question, hits in self.answers.items():
            console.print(f"\n{visible(question)}", style="bold", markup=False, highlight=False)
            for rank, hit in enumerate(hits, 1):
                line = f"  {rank}. {hit.doc_id}  ({hit.score:.2f})"
                console.print(visible(line), markup=False, highlight=False)
        example = "how do I sort a dictionary by value"
        for line in (
            f"\nDone in {self.elapsed / 60:.1f} minutes. Next:",
            f"  {command_line('search', self.out / 'index', example)}",
            "  dsi prepare documents.jsonl --out my-dataset     # your own: id, title, text",
            "  dsi train my-dataset --out my-index",
            '  dsi search my-index "your query"',
        ):
            console.print(visible(line), markup=False, highlight=False)
