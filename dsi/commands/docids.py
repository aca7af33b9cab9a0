"""`dsi docids`: assigns identifiers to the documents of a dataset."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

from data_prep.marks import Names, Seed
from docids.embeddings import EmbeddingOptions
from docids.kind_options import KindOptions
from docids.kinds import KINDS
from dsi.command_line.arguments import SPREAD
from dsi.command_line.command_report import Report, TableReport

KindName = Annotated[str, Names(lambda: KINDS)]
_EMBEDDING = EmbeddingOptions()
_KINDS = KindOptions()


def docids(
    dataset: Path,
    *,
    out: Path,
    kind: KindName = "atomic",
    seed: Seed = 0,
    kinds: Annotated[KindOptions, SPREAD] = _KINDS,
    embedding: EmbeddingOptions = _EMBEDDING,
) -> Report:
    """Assigns identifiers to documents and reports their quality.

    Kinds: atomic (one code per document), naive (arbitrary integers, spelled in digits), semantic
    (paths through hierarchical k-means), rq and pq (residual and product quantization), rqvae
    (residual quantization by an autoencoder), learned (codes trained for retrieval), description
    (the pseudo-query that retrieves the document best), keywords, title and url (their words),
    random (the shape of semantic without its meaning, as a control). The same dataset, options and
    seed give the same identifiers.

    Args:
        dataset: Dataset folder.
        out: Folder for the identifiers; identifiers that are already there are replaced.
        kind: Identifier kind.
        seed: Random seed.
        kinds: Options of each kind.
        embedding: Document embeddings, for identifiers made from document vectors, and for purity
    """
    from data_prep.dataset import Dataset
    from docids.assignment import assign, refuse_other_content
    from docids.pseudo_queries import queries_of

    options = kinds.of_kind(kind)
    kinds.refuse_unused(kind, f"--kind {kind}")
    opened = Dataset.open(dataset)
    refuse_other_content(out)
    scratch = out.resolve().with_name(f".{out.resolve().name}.partial")
    assignment, quality = assign(
        list(opened.documents()),
        kind=kind,
        options=options,
        embedding=embedding,
        seed=seed,
        origin={
            "dataset": opened.info.name,
            "content_hash": opened.info.content_hash,
        },
        queries=queries_of(opened),
        scratch=scratch,
        reserve=kinds.reserve,
    )
    assignment.save(out, quality)
    shutil.rmtree(scratch, ignore_errors=True)
    return TableReport(
        data={**quality.to_dict(), "out": str(out)},
        title=f"{kind} identifiers of {opened.info.name}",
        columns=("", ""),
        rows=quality.rows(),
        closing=(f"written to {out}",),
    )
