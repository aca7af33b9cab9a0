"""Worker of test_learning.py in two processes: trains every cell, and records failures."""

from __future__ import annotations

import json
from pathlib import Path

import learning

from data_prep.dataset import Dataset
from dsi.distributed.processes import Processes
from dsi.indexing.build import train_index


def main(folder: str, dataset: str, quick: bool) -> None:
    """Trains cells under their engines, an index each.

    Args:
        folder: For the indexes, and `failed-RANK.json`.
        dataset: Path of the corpus.
        quick: Whether the quick cells, or all others.
    """
    place, corpus, processes = Path(folder), Dataset.open(dataset), Processes()
    failed = {}
    for cell in learning.TOGETHER:
        if cell.quick != quick:
            continue
        zero = None if cell.engine == "ddp" else learning.CONFIGS / f"{cell.engine}.json"
        try:
            wanted = processes.main_process_first(
                lambda cell=cell: learning.options(cell.way, cell.precision, place, corpus)
            )
            with learning.small_network(), learning.watched_products() as seen:
                train_index(corpus, place / cell.name, wanted, deepspeed=zero)
            if cell.engine == "ddp" and cell.precision == "bf16":
                (products,) = seen
                assert products.read > 0, "no product was seen"
                assert not products.stale, f"stale weights were read: {products.stale[:3]}"
        except Exception as error:
            failed[cell.name] = f"{type(error).__name__}: {error}"
    (place / f"failed-{processes.rank}.json").write_text(json.dumps(failed))
