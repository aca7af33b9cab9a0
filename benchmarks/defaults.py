"""Which defaults of ranking does the dev split choose?

    python benchmarks/defaults.py --dataset squad-dev=PATH/TO/BEIR
    python benchmarks/defaults.py --dataset squad-dev=PATH --encoder PATH/TO/MINILM

One option at a time is changed, the others stay at their defaults: the size of pairs, the penalty
on the gains of words, and the weight of latent vectors beside words; with `--encoder`, the weight
of its vectors instead. Every cell is an index of one seed, measured on split dev, of which only
the number of steps of the lexical layer is chosen. Cells in `results/defaults.jsonl` are not
measured again.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from record import cell, differing, show

OPTIONS: dict[str, tuple[float, ...]] = {
    "lexical.pairs": (0.0, 0.1, 0.2, 0.4),
    "lexical.word_decay": (1.0, 3.0, 5.0, 10.0, 100.0),
    "model.latent_weight": (1.0, 2.0, 4.0),
}
OF_ENCODERS: dict[str, tuple[float, ...]] = {"model.encoder_weight": (8.0, 16.0, 24.0)}
MEASURES = ("Success@1", "Success@10", "RR@10")


def main() -> None:
    """Measures the cells that are missing and prints the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, metavar="NAME=SOURCE")
    parser.add_argument("--encoder", metavar="PATH", help="vary the weight of its vectors")
    parser.add_argument("--options", help="with commas between; default: all")
    arguments = parser.parse_args()
    name, source = arguments.dataset.split("=", 1)
    grid = OF_ENCODERS if arguments.encoder else OPTIONS
    rows = []
    for option in arguments.options.split(",") if arguments.options else grid:
        for value in grid[option]:
            found = cell(
                "defaults",
                cell_name(name, option, value, arguments.encoder),
                lambda option=option, value=value: _measure(
                    source, option, value, arguments.encoder
                ),
            )
            rows.append({"option": option, "value": value, **found["dev"]})
    show(rows, ["option", "value", *MEASURES])


def cell_name(dataset: str, option: str, value: float, encoder: str | None = None) -> str:
    """Returns the name of a cell; the same for the default, whichever option is changed."""
    if value == _default(option):
        option = "defaults"
    words = [dataset, option] if option == "defaults" else [dataset, option, f"{value:g}"]
    if encoder is not None:
        words.append(Path(encoder).name)
    return "-".join(words)


def _default(option: str) -> Any:
    from dsi.indexing.options import TrainingOptions

    group, field = option.split(".")
    return getattr(getattr(TrainingOptions(), group), field)


def _measure(source: str, option: str, value: float, encoder: str | None) -> dict[str, Any]:
    from data_prep.dataset import Dataset
    from dsi.commands.evaluate import evaluate
    from dsi.commands.prepare import prepare
    from dsi.indexing.build import train_index
    from dsi.indexing.options import TrainingOptions

    options = TrainingOptions()
    if encoder is not None:
        options = replace(options, model=replace(options.model, encoder=encoder))
    group, field = option.split(".")
    changed = replace(getattr(options, group), **{field: value})
    options = replace(options, **{group: changed})
    with TemporaryDirectory() as folder:
        dataset, index = Path(folder) / "dataset", Path(folder) / "index"
        prepare(source, out=dataset)
        train_index(Dataset.open(dataset), index, options)
        report = evaluate([index], dataset, split="dev", baselines="none")
    figures = report.data["systems"]["index"]["all"]
    return {
        "settings": {"split": "dev", "options": differing(options)},
        "dev": {measure: figures[measure] for measure in MEASURES},
    }


if __name__ == "__main__":
    main()
