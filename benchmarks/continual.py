"""Which way of updating an index keeps old documents and learns new ones, and at what cost?

    python benchmarks/continual.py --dataset squad-dev=BEIR --documents 1000 --work FOLDER
    python benchmarks/continual.py --dataset squad-dev=BEIR --seeds 0,1,2 --kinds atomic,semantic

DSI++'s protocol: D0 has half of the documents, five increments share the rest and bring no
labeled query. Every cell (identifiers, strategy, seed) grows a copy of the index of D0 by one
increment after another and is measured after each (A_n, F_n, LA_n), and every second step of it.
Updates count examples: steps x batch. An update makes a sixth of the steps of a training unless
--update-steps says otherwise; `retrain` trains from scratch on everything after each increment, on
the same pseudo-queries. By default the network moves little after its warm start, and there is
little to forget; with --steps 0, the default of `dsi train`, only the lexical layer is trained, and
an update appends (`append`). --body 1 moves all of it at the rate of --lr, as the paper does.
Semantic identifiers have a code for each branch of their tree.

Indexes and curves are kept in --work, results in `results/continual.jsonl`: cells that are there
are not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from record import cell, show, usable

from data_prep.dataset import Dataset
from data_prep.files import read_json
from docids.kinds import TreeOptions
from dsi.commands.prepare import prepare
from dsi.continual import increments, protocol
from dsi.continual.summary import (
    MEASURES,
    curves_of,
    means_of,
    measures_of,
    results_of,
    stability_of,
)
from dsi.indexing.options import TrainingOptions
from dsi.training.options import LoopOptions, OptimizerOptions
from dsi.updating.options import UpdateOptions

STRATEGIES = (
    "finetune,reindex,episodic,generative@ratio=32,generative@ratio=2,generative@ratio=0,"
    "generative+episodic@ratio=0,retrain,instant"
)
INCREMENTS, SHARE = 5, 0.5
SHOWN = [
    f"{letter} {measure}"
    for measure in ("Hits@10", "Hits@1", "indexing")
    for letter in ("A", "F", "LA")
]
SHOWN += ["min-ACC", "WC-ACC", "WF10", "never forgotten", "updates", "seconds"]


def main() -> None:
    """Measures the cells that are missing and prints the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, metavar="NAME=SOURCE")
    parser.add_argument("--documents", type=int, help="take only the first so many")
    parser.add_argument("--kinds", default="atomic")
    parser.add_argument("--strategies", default=STRATEGIES)
    parser.add_argument("--seeds", default="0", help="numbers with commas between")
    parser.add_argument("--steps", type=int, default=60, help="of a training from scratch")
    parser.add_argument("--update-steps", type=int, help="default: a sixth of them")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--body", type=float, help="share of the learning rate of the network")
    parser.add_argument("--precision", default="auto", help="of training; as dsi train has it")
    parser.add_argument("--lr", type=float, help="default: that of dsi train")
    parser.add_argument("--work", type=Path, required=True, help="where indexes are kept")
    parser.add_argument("--show", action="store_true", help="only show what there is")
    arguments = parser.parse_args()
    name, source = arguments.dataset.split("=", 1)
    rows = []
    for kind in arguments.kinds.split(","):
        for strategy in arguments.strategies.split(","):
            cells = []
            for seed in map(int, arguments.seeds.split(",")):
                label = _label(name, kind, strategy, arguments, seed)
                if arguments.show and not usable("continual", label):
                    continue
                cells.append(
                    cell(
                        "continual",
                        label,
                        lambda kind=kind, strategy=strategy, seed=seed: _measure(
                            name, source, kind, strategy, arguments, seed
                        ),
                    )
                )
            if cells:
                row = {"docids": kind, "strategy": strategy, "seeds": len(cells)}
                rows.append({**row, **means_of(cells, SHOWN)})
    show(rows, ["docids", "strategy", "seeds", *SHOWN])


def _label(name: str, kind: str, strategy: str, arguments: argparse.Namespace, seed: int) -> str:
    size = f"{arguments.documents}docs" if arguments.documents else "all"
    words = [name, size, f"{arguments.steps}x{arguments.batch}", kind, strategy, f"seed{seed}"]
    if arguments.update_steps:
        words.insert(3, f"update{arguments.update_steps}")
    words[3:3] = _variant(arguments)
    return "-".join(words)


def _variant(arguments: argparse.Namespace) -> list[str]:
    """Words for how fast the model moves, where that is not as usual."""
    asked = {"body": arguments.body, "lr": arguments.lr}
    words = [f"{name}{value:g}" for name, value in asked.items() if value is not None]
    return words + [arguments.precision] * (arguments.precision != "auto")


def _measure(
    name: str, source: str, kind: str, strategy: str, arguments: argparse.Namespace, seed: int
) -> dict[str, Any]:
    work: Path = arguments.work
    size = f"{arguments.documents or 'all'}"
    dataset = work / name
    if not (dataset / "dataset.json").is_file():
        prepare(source, out=dataset)
    split = work / f"{name}-{size}-split"
    if not (split / "split.json").is_file():
        increments.split_dataset(
            Dataset.open(dataset),
            split,
            increments=INCREMENTS,
            fraction=SHARE,
            seed=0,
            documents=arguments.documents,
        )
    steps = arguments.update_steps or -(-arguments.steps // 6)
    trained = {"steps": steps} if steps else {}
    speed = {} if arguments.lr is None else {"lr": arguments.lr}
    options = protocol.ContinualOptions(
        strategies=(strategy,),
        curve_queries=100,
        train=TrainingOptions(
            docids=kind,
            semantic=TreeOptions(codes="node"),
            per_doc=20,
            optimizer=OptimizerOptions(backbone_lr_scale=arguments.body, **speed),
            loop=LoopOptions(
                steps=arguments.steps, batch=arguments.batch, precision=arguments.precision
            ),
        ),
        update=UpdateOptions(**trained),
    )
    if strategy.startswith("retrain") and steps:
        options = dataclasses.replace(options, update=UpdateOptions(steps=arguments.steps))
    words = [name, size, kind, *_variant(arguments), f"{arguments.steps}x{arguments.batch}"]
    out = work / "-".join(words)
    corpora = increments.open_split(split)
    base, first = protocol.train_base(corpora, out, options, seed)
    runs = out / f"update{steps}"
    protocol.run_strategy(corpora, runs, options, strategy, seed, base, first)
    results = results_of(runs, strategy, seed)
    curves = curves_of(runs, strategy, seed, len(results))
    settings = {
        "dataset": name,
        "documents": arguments.documents,
        "kind": kind,
        "strategy": strategy,
        "seed": seed,
        "steps": arguments.steps,
        "update_steps": options.update.steps,
        "batch": arguments.batch,
        **{key: getattr(arguments, key) for key in ("body", "lr") if getattr(arguments, key)},
        "precision": arguments.precision,
    }
    return {
        "settings": settings,
        "split": read_json(split / "split.json"),
        **measures_of(results),
        "stability": stability_of(curves),
        "performance": {
            measure: [[corpus[measure] for corpus in result["performance"]] for result in results]
            for measure in MEASURES
        },
        "seconds of increments": [result["seconds"] for result in results],
    }


if __name__ == "__main__":
    main()
