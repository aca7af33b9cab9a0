"""Per-query measures as CSV or Parquet, for custom tests and plots."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.dataset import Dataset
from data_prep.errors import InputError
from data_prep.files import writing, writing_bytes
from dsi.evaluation.comparison import Measured, label_of
from dsi.evaluation.judgments import group_queries, judgments_of

SUFFIXES = (".csv", ".parquet")


def refuse_other_format(file: Path | None) -> None:
    """Refuses files of other formats, before work starts.

    Raises:
        InputError: The suffix is unknown.
    """
    if file is not None and file.suffix not in SUFFIXES:
        raise InputError(
            "cannot tell the format of this file",
            where=f"--per_query {file}",
            hint=f"Use a file name that ends in one of: {', '.join(SUFFIXES)}",
        )


def write_per_query(
    file: Path, dataset: Dataset, split: str, systems: Sequence[Measured], varied: Sequence[str]
) -> None:
    """Writes one record per system and query: ids, text, group and measures.

    Args:
        file: Output file; the suffix selects the format.
        dataset: The dataset.
        split: Split of the queries.
        systems: The measured systems.
        varied: The options that distinguish the systems.
    """
    records = list(_records(dataset, split, systems, varied))
    if file.suffix == ".csv":
        with writing(file) as stream:
            writer = csv.DictWriter(stream, list(records[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(records)
        return
    import pyarrow as pa
    from pyarrow.parquet import write_table

    with writing_bytes(file) as stream:
        write_table(pa.Table.from_pylist(records), stream)


def _records(
    dataset: Dataset, split: str, systems: Sequence[Measured], varied: Sequence[str]
) -> Iterator[Mapping[str, Any]]:
    groups = group_queries(judgments_of(dataset, split), judgments_of(dataset, "train"))
    seen = {query: name for name in ("seen", "unseen") for query in groups[name]}
    texts = dataset.query_texts()
    for system in systems:
        for query_id, values in system.per_query.items():
            yield {
                "system": label_of(system, varied),
                "seed": system.seed,
                "query_id": query_id,
                "query": texts[query_id],
                "group": seen.get(query_id, ""),
                **values,
            }
