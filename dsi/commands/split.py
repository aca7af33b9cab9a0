"""`dsi split`: splits a dataset into an initial corpus and increments."""

from __future__ import annotations

from pathlib import Path

from data_prep.errors import command_line
from data_prep.marks import Count, Open, Seed
from dsi.command_line.command_report import Report, TableReport


def split(
    dataset: Path,
    *,
    out: Path,
    increments: Count = 5,
    fraction: Open = 0.5,
    documents: Count | None = None,
    seed: Seed = 0,
) -> Report:
    """Splits a dataset into an initial corpus and increments.

    The defaults are those of DSI++: half of the documents in D0, and five increments D1, D2, ...
    MixLoRA-DSI uses --fraction 0.9 --increments 4. Only D0 keeps its labeled training queries;
    increments have only test queries.

    Args:
        dataset: Dataset folder.
        out: Folder for the parts d0, d1, ...
        increments: Number of increments.
        fraction: Fraction of the documents in D0.
        documents: Use only the first N documents.
        seed: Random seed.
    """
    from data_prep.dataset import Dataset
    from dsi.continual.increments import split_dataset

    parts = split_dataset(
        Dataset.open(dataset),
        out,
        increments=increments,
        fraction=fraction,
        seed=seed,
        documents=documents,
    )
    rows = [
        (
            f"d{number}",
            part.info.documents,
            *(part.info.qrels.get(name, 0) for name in ("train", "dev", "test")),
        )
        for number, part in enumerate(parts)
    ]
    columns = ("corpus", "documents", "train", "dev", "test")
    untested = [str(row[0]) for row in rows if not row[-1]]
    missing = (
        [
            f"WARNING: no test queries in {', '.join(untested)}, and `dsi continual` needs some in "
            "each part: use larger increments, or a dataset with more test queries"
        ]
        if untested
        else []
    )
    return TableReport(
        data={
            "split": str(out),
            "corpora": [dict(zip(columns, row, strict=True)) for row in rows],
        },
        title=f"{out}: {parts[0].info.name.rpartition('-')[0]} in {len(parts)} parts",
        columns=columns,
        rows=rows,
        closing=(*missing, "next: " + command_line("continual", out, "--out", "RESULTS")),
    )
