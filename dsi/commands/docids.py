"""`dsi docids`: gives the documents of a dataset their identifiers."""

from __future__ import annotations

from pathlib import Path

from docids.embeddings import EmbeddingOptions
from docids.kinds import KINDS, NoOptions, TreeOptions
from dsi.report import Report, TableReport

_EMBEDDING = EmbeddingOptions()
_SEMANTIC = TreeOptions()


def docids(
    dataset: Path,
    *,
    out: Path,
    kind: str = "semantic",
    seed: int = 0,
    semantic: TreeOptions = _SEMANTIC,
    embedding: EmbeddingOptions = _EMBEDDING,
) -> Report:
    """Gives every document of a dataset an identifier, and prints how good they are.

    Kinds: atomic (one code for each document), naive (arbitrary integers, spelled in digits),
    semantic (paths through hierarchical k-means), random (the shape of semantic, without its
    meaning: the control). The same dataset, options and seed give the same identifiers.

    Args:
        dataset: The folder of the dataset.
        out: The folder for the identifiers; replaced if it holds identifiers already.
        kind: atomic, naive, semantic or random.
        seed: Of everything drawn at random.
        semantic: Options of the kinds semantic and random.
        embedding: How documents become vectors; for semantic and random, and for the purity
            of every kind.
    """
    from data_prep.dataset import Dataset
    from docids.assignment import assign, refuse_other_content, text_of

    needed = KINDS[kind].Options
    opened = Dataset.open(dataset)
    refuse_other_content(out)
    doc_ids, titles, texts = [], [], []
    for document in opened.documents():
        doc_ids.append(document.doc_id)
        titles.append(document.title)
        texts.append(document.text)
    assignment, quality = assign(
        doc_ids,
        text_of(titles, texts),
        kind=kind,
        options=semantic if needed is TreeOptions else NoOptions(),
        embedding=embedding,
        seed=seed,
        origin={
            "dataset": opened.info.name,
            "content_hash": opened.info.content_hash,
        },
    )
    assignment.save(out, quality)
    return TableReport(
        data={**quality.to_dict(), "out": str(out)},
        title=f"{kind} identifiers of {opened.info.name}",
        columns=("", ""),
        rows=quality.rows(),
        closing=(f"written to {out}",),
    )
