"""Which update strategies keep old documents where plain training forgets them?

    python benchmarks/forgetting.py --work FOLDER                      # the quickstart's corpus
    python benchmarks/forgetting.py --dataset squad-dev=SOURCE --work FOLDER --seeds 0,1,2
    python benchmarks/forgetting.py --dataset squad-dev=SOURCE --work FOLDER --setting default

`--contrastive 0.1 --strategies kernel` adds a supervised contrastive term to the first training,
which is meant for `kernel`; `--contrastive 0` is its control.

DSI++'s protocol (`benchmarks/continual.py`) in two settings. `forgetting` is
configs/forgetting.yaml: a network from scratch, all of whose weights have been trained until it has
memorized D0, identifiers of several codes, no lexical layer; `finetune`, which trains on new
documents alone, loses more than ten points there. `default` is what `dsi train` makes. Every cell
is one setting, kind of identifiers, strategy and seed. Indexes are kept in --work, results in
`results/forgetting.jsonl`: cells that are there are not run again, and an interrupted one resumes
with its next increment.

Updates count examples. All strategies of an update make --update-steps steps, by default a sixth of
those of `retrain`, which makes as many as the first training: DSI++ claims that the generative
memory reaches it with six times fewer updates.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

from record import cell, show, usable

from data_prep.dataset import Dataset
from data_prep.files import read_json
from dsi.command_line.arguments import Arguments
from dsi.commands.prepare import prepare
from dsi.commands.train import train
from dsi.continual import increments, protocol
from dsi.continual.summary import MEASURES, means_of, measures_of, results_of
from dsi.indexing.options import TrainingOptions
from dsi.updating.options import UpdateOptions

CONFIG = Path(__file__).parents[1] / "configs" / "forgetting.yaml"
SETTINGS = ("forgetting", "default")
STRATEGIES = (
    "retrain,finetune,reindex,generative,generative+sam,generative+ewc,finetune+reglora,"
    "finetune+periods,generative+periods,generative+prompts,pamt,edit,kernel,refit,instant,append"
)
INCREMENTS, SHARE = 5, 0.5
SHOWN = [f"{letter} {measure}" for measure in MEASURES for letter in ("A", "F", "LA")]
SHOWN += ["updates", "seconds"]


def main() -> None:
    """Measures the cells that are missing and prints all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="docstrings=docstrings", metavar="NAME=SOURCE")
    parser.add_argument("--documents", type=int, default=240, help="take only the first so many")
    parser.add_argument("--setting", choices=SETTINGS, default="forgetting")
    parser.add_argument("--kinds", help="default: semantic; atomic for --setting default")
    parser.add_argument("--strategies", default=STRATEGIES)
    parser.add_argument("--seeds", default="0", help="numbers with commas between")
    parser.add_argument("--update-steps", type=int, default=30)
    parser.add_argument(
        "--contrastive",
        type=float,
        metavar="WEIGHT",
        help="supervised contrastive term of the first training (0: a control, as without it)",
    )
    parser.add_argument("--work", type=Path, required=True, help="where indexes are kept")
    parser.add_argument("--until", help="begin no cell after this time of day, as in 17:30")
    parser.add_argument("--show", action="store_true", help="only show what there is")
    arguments = parser.parse_args()
    name, source = arguments.dataset.split("=", 1)
    kinds = arguments.kinds or ("semantic" if arguments.setting == "forgetting" else "atomic")
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    # All strategies with one seed before the next seed: what is stopped has a whole table.
    for seed in map(int, arguments.seeds.split(",")):
        for kind in kinds.split(","):
            for strategy in arguments.strategies.split(","):
                label = "-".join(
                    [name, f"{arguments.documents}docs", arguments.setting]
                    + [f"update{arguments.update_steps}"] * (arguments.setting == "forgetting")
                    + (
                        []
                        if arguments.contrastive is None
                        else [f"contrastive{arguments.contrastive:g}"]
                    )
                    + [kind, strategy, f"seed{seed}"]
                )
                late = arguments.until is not None and time.strftime("%H:%M") >= arguments.until
                if (arguments.show or late) and not usable("forgetting", label):
                    continue
                row = cell(
                    "forgetting",
                    label,
                    lambda kind=kind, strategy=strategy, seed=seed: _measure(
                        name, source, kind, strategy, arguments, seed
                    ),
                )
                found.setdefault((kind, strategy), []).append(row)
    rows = [
        {"docids": kind, "strategy": strategy, "seeds": len(cells), **means_of(cells, SHOWN)}
        for (kind, strategy), cells in found.items()
    ]
    show(rows, ["docids", "strategy", "seeds", *SHOWN])


def training_options(setting: str, kind: str, contrastive: float = 0) -> TrainingOptions:
    """Returns how D0 is trained in a setting."""
    words = ["ds", "--out", "index", "--docids", kind]
    if setting == "forgetting":
        words += ["--config", str(CONFIG)]
    if contrastive:
        words += ["--objectives.contrastive.weight", str(contrastive)]
    options = Arguments("train", train).parse(words).values["options"]
    assert isinstance(options, TrainingOptions)
    return options


def _measure(
    name: str, source: str, kind: str, strategy: str, arguments: argparse.Namespace, seed: int
) -> dict[str, Any]:
    work: Path = arguments.work
    dataset = work / name
    if not (dataset / "dataset.json").is_file():
        prepare(source, out=dataset)
    corpora = increments.split_dataset(
        Dataset.open(dataset),
        work / f"{name}-{arguments.documents}-split",
        increments=INCREMENTS,
        fraction=SHARE,
        seed=0,
        documents=arguments.documents,
    )
    trains = arguments.setting == "forgetting"
    options = protocol.ContinualOptions(
        strategies=(strategy,),
        interval=0,
        train=training_options(arguments.setting, kind, arguments.contrastive or 0),
        update=UpdateOptions(steps=arguments.update_steps) if trains else UpdateOptions(),
    )
    if strategy in ("retrain", "append", "instant", "edit", "kernel", "refit", "pamt"):
        # The first ignores the steps of an update, the others make none.
        steps = options.train.loop.steps if strategy == "retrain" else None
        options = dataclasses.replace(options, update=UpdateOptions(steps=steps))
    out = work / "-".join([name, str(arguments.documents), arguments.setting, kind])
    if arguments.contrastive is not None:
        out = out.with_name(f"{out.name}-contrastive{arguments.contrastive:g}")
    base, first = protocol.train_base(corpora, out, options, seed)
    runs = out / f"update{arguments.update_steps}"
    protocol.run_strategy(corpora, runs, options, strategy, seed, base, first)
    results = results_of(runs, strategy, seed)
    return {
        "settings": {
            "dataset": name,
            "documents": arguments.documents,
            "setting": arguments.setting,
            "kind": kind,
            "strategy": strategy,
            "seed": seed,
            "update_steps": options.update.steps,
            "contrastive": arguments.contrastive,
        },
        "split": read_json(work / f"{name}-{arguments.documents}-split" / "split.json"),
        **measures_of(results),
        "stability": {},
        "performance": {
            measure: [[corpus[measure] for corpus in result["performance"]] for result in results]
            for measure in MEASURES
        },
        "found": [
            ["".join("01"[0 < rank <= 10] for rank in corpus) for corpus in result["ranks"]]
            for result in results
        ],
        "seconds of increments": [result["seconds"] for result in results],
        "timing": [result.get("timing", {}) for result in results],
        "bytes kept a document": [result.get("bytes kept a document") for result in results],
    }


if __name__ == "__main__":
    main()
