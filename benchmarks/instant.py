"""What does it cost to add documents by solving for their rows, and are they found?

    python benchmarks/instant.py --dataset squad-dev=BEIR --work FOLDER

An index of all documents but --new is trained from scratch, with its labeled queries. The new ones
come without any, and are added by `dsi update --strategy instant` in each of its forms, and by
`retrain`, which trains on everything with the same pseudo-queries. The command is timed as a whole,
from its start to its end (Python's imports, identifiers, pseudo-queries, the probe of old documents
and writing the version included), and what it says of itself: of growing the model, of reading
queries and of solving. All test queries are asked, those of old documents before and after.

Indexes are kept in --work, results in `results/instant/`: cells that are there are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from record import cell, show, usable

from data_prep.dataset import Dataset
from dsi.commands.prepare import prepare
from dsi.continual import increments
from dsi.continual.evaluation_queries import EvaluationQueries, measure
from dsi.index_folder.version_files import link_or_copy
from dsi.indexing.build import train_index
from dsi.indexing.options import TrainingOptions
from dsi.training.options import LoopOptions

FORMS = {
    "lbfgs": ["--strategy", "instant"],
    "closed": ["--strategy", "instant", "--instant.solver", "closed"],
    "retrain": ["--strategy", "retrain"],
}
COLUMNS = [
    "form",
    "documents",
    "new",
    "solving",
    "reading queries",
    "growing",
    "all",
    "command",
    "processor",
    "load",
    "old Hits@10 before",
    "old Hits@10",
    "new Hits@10",
    "old Hits@1 before",
    "old Hits@1",
    "new Hits@1",
]


def main() -> None:
    """Measures the cells that are missing and prints the table of all; times in ms a document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, metavar="NAME=SOURCE")
    parser.add_argument("--new", type=int, default=200, help="documents that are added")
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--steps", type=int, default=160, help="of a training from scratch")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, required=True, help="where indexes are kept")
    parser.add_argument("--show", action="store_true", help="only show what there is")
    arguments = parser.parse_args()
    name, source = arguments.dataset.split("=", 1)
    rows = []
    for form in arguments.forms.split(","):
        label = (
            f"{name}-{arguments.new}new-{arguments.steps}x{arguments.batch}-{form}"
            f"-seed{arguments.seed}"
        )
        if arguments.show and not usable("instant", label):
            continue
        rows.append(
            cell("instant", label, lambda form=form: _measure(name, source, form, arguments))
        )
    show(rows, COLUMNS)


def _measure(name: str, source: str, form: str, arguments: argparse.Namespace) -> dict[str, Any]:
    corpora, base = _base(name, source, arguments)
    evaluation_queries = [EvaluationQueries.of(corpus) for corpus in corpora]
    index = base.parent / form
    shutil.rmtree(index, ignore_errors=True)
    shutil.copytree(base, index, copy_function=link_or_copy)
    before = measure(index, evaluation_queries[:1], None)[0]
    words = [sys.executable, "-m", "dsi", "update", str(index), str(corpora[1].path), "--json"]
    load, busy = os.getloadavg()[0], _processor_seconds()
    began = time.perf_counter()
    done = subprocess.run(
        [*words, *FORMS[form]],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env=os.environ | {"TQDM_DISABLE": "1"},
    )
    seconds, busy = time.perf_counter() - began, _processor_seconds() - busy
    told = json.loads(done.stdout)
    old, new = measure(index, evaluation_queries, None)
    return {
        "settings": {
            "dataset": name,
            "form": form,
            "documents": told["documents"],
            "new": told["added"],
            "steps": arguments.steps,
            "batch": arguments.batch,
            "seed": arguments.seed,
        },
        **told["timing"].get("milliseconds a document", {}),
        "command": 1000 * seconds / told["added"],
        "processor": 1000 * busy / told["added"],
        "load": load,
        **{f"old {key} before": value for key, value in before.items()},
        **{f"old {key}": value for key, value in old.items()},
        **{f"new {key}": value for key, value in new.items()},
        "old queries": len(evaluation_queries[0].queries),
        "new queries": len(evaluation_queries[1].queries),
        "seconds": seconds,
    }


def _processor_seconds() -> float:
    """What all commands so far have taken of the processor, over its cores."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _base(name: str, source: str, arguments: argparse.Namespace) -> tuple[list[Dataset], Path]:
    """Returns the two corpora, and an index of the first."""
    dataset = arguments.work / name
    if not (dataset / "dataset.json").is_file():
        prepare(source, out=dataset)
    documents = Dataset.open(dataset).info.documents
    folder = arguments.work / f"{name}-{arguments.new}new"
    split = folder / "split"
    if not (split / "split.json").is_file():
        share = 1 - arguments.new / documents
        increments.split_dataset(Dataset.open(dataset), split, increments=1, fraction=share, seed=0)
    corpora = increments.open_split(split)
    size = f"{arguments.steps}x{arguments.batch}-seed{arguments.seed}"
    base = folder / size / "base"
    loop = LoopOptions(steps=arguments.steps, batch=arguments.batch)
    train_index(corpora[0], base, TrainingOptions(loop=loop, seed=arguments.seed))
    return corpora, base


if __name__ == "__main__":
    main()
