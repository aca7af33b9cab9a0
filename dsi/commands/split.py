"""`dsi split`: a dataset into a first corpus and increments."""

from __future__ import annotations

from pathlib import Path

from data_prep.errors import command_line
from dsi.report import Report, TableReport


def split(
    dataset: Path,
    *,
    out: Path,
    increments: int = 5,
    share: float = 0.5,
    documents: int | None = None,
    seed: int = 0,
) -> Report:
    """Splits a dataset into D0 and increments, as papers on continual indexing do.

    DSI++ has half of the documents in D0 and five increments (the defaults); MixLoRA-DSI has
    --share 0.9 --increments 4. D0 keeps its labelled queries; increments have no labelled query
    to learn from, only test queries.

    Args:
        dataset: The folder of a dataset.
        out: The folder for the parts, d0, d1 and so on.
        increments: How many there are besides D0.
        share: D0's share of the documents.
        documents: Take only the first so many documents.
        seed: Of the choice.
    """
    from data_prep.dataset import Dataset
    from dsi.continual.increments import split_dataset

    parts = split_dataset(
        Dataset.open(dataset),
        out,
        increments=increments,
        share=share,
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
    return TableReport(
        data={
            "split": str(out),
            "corpora": [dict(zip(columns, row, strict=True)) for row in rows],
        },
        title=f"{out}: {parts[0].info.name.rpartition('-')[0]} in {len(parts)} parts",
        columns=columns,
        rows=rows,
        closing=(
            "next: "
            + command_line(
                "continual", out, "--strategies", "generative,retrain", "--out", "RESULTS"
            ),
        ),
    )
