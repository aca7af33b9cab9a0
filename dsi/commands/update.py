"""`dsi update`: add documents to an index as a new version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dsi.report import Report, TableReport
from dsi.updating.options import (
    AdapterOptions,
    BatchSoftmaxOptions,
    DistillOptions,
    EwcOptions,
    InstantOptions,
    InterpolationOptions,
    LocasOptions,
    MarginOptions,
    RankOneOptions,
    RegLoraOptions,
    SamStrategyOptions,
    UpdateOptions,
    ViewBatchOptions,
    WarmUpOptions,
    refuse_unused,
)

if TYPE_CHECKING:
    from data_prep.dataset import Dataset

_DEFAULT = UpdateOptions()


def update(
    index: Path,
    new: str,
    *,
    strategy: str = _DEFAULT.strategy,
    ratio: float = _DEFAULT.ratio,
    new_share: float | None = None,
    steps: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    generator: str = "auto",
    per_doc: int | None = None,
    seed: int = 0,
    warn_loss: float = _DEFAULT.warn_loss,
    refuse_loss: float | None = None,
    probe_queries: int = _DEFAULT.probe_queries,
    old: Path | None = None,
    instant: InstantOptions = _DEFAULT.instant,
    ewc: EwcOptions = _DEFAULT.ewc,
    rank1: RankOneOptions = _DEFAULT.rank1,
    margin: MarginOptions = _DEFAULT.margin,
    batch_softmax: BatchSoftmaxOptions = _DEFAULT.batch_softmax,
    distill: DistillOptions = _DEFAULT.distill,
    sam: SamStrategyOptions = _DEFAULT.sam,
    warm_up: WarmUpOptions = _DEFAULT.warm_up,
    view_batch: ViewBatchOptions = _DEFAULT.view_batch,
    lora: AdapterOptions = _DEFAULT.lora,
    i_lora: InterpolationOptions = _DEFAULT.i_lora,
    reglora: RegLoraOptions = _DEFAULT.reglora,
    locas: LocasOptions = _DEFAULT.locas,
) -> Report:
    """Adds documents to an index as a new version, and keeps the old ones found.

    A document that the index has already is left out; one whose text has changed is replaced and
    keeps its identifier. The version before answers searches until the new one is complete. Run
    again after an interruption, it continues. Strategies are described in docs/updating.md; names
    are joined by plus signs, as in generative+ewc.

    Args:
        index: The folder of the index.
        new: The new documents: a dataset, or whatever `dsi prepare` reads by itself.
        strategy: What the model learns from, and how old documents are kept.
        ratio: Texts of documents that are learned for each query, labelled or pseudo; 0 for none.
        new_share: Share of the examples that are about new documents; by default their share of
            all documents.
        steps: Optimiser steps; by default a tenth of those of the first training.
        batch: Examples per step; by default that of the first training.
        lr: Highest learning rate; by default that of the first training.
        generator: Whose pseudo-queries new documents get; auto is that of the old ones.
        per_doc: Pseudo-queries a document; by default as many as the old ones have.
        seed: Of everything drawn at random.
        warn_loss: Points of Hits@10 on the kept probe queries whose loss is warned of.
        refuse_loss: Points of Hits@10 on the kept probe queries with whose loss the new version
            is not written.
        probe_queries: Most queries of the probe set.
        old: The dataset that the index was trained on, for one written before indexes kept
            their documents.
        instant: Options of the strategy instant.
        ewc: Options of the strategy ewc.
        rank1: Options of the strategy rank1-ewc.
        margin: Options of the strategy threshold-margin.
        batch_softmax: Options of the strategy batch-softmax.
        distill: Options of the strategy distill.
        sam: Options of the strategy sam.
        warm_up: Options of the strategy warm-up.
        view_batch: Options of the strategy view-batch.
        lora: The adapter of the strategies lora, i-lora and reglora.
        i_lora: Options of the strategy i-lora.
        reglora: Options of the strategy reglora.
        locas: Options of the strategy locas.
    """
    from data_prep.dataset import Dataset
    from dsi.updating.update import update_index

    options = UpdateOptions(
        strategy=strategy,
        ratio=ratio,
        new_share=new_share,
        steps=steps,
        batch=batch,
        lr=lr,
        generator=generator,
        per_doc=per_doc,
        seed=seed,
        warn_loss=warn_loss,
        refuse_loss=refuse_loss,
        probe_queries=probe_queries,
        instant=instant,
        ewc=ewc,
        rank1=rank1,
        margin=margin,
        batch_softmax=batch_softmax,
        distill=distill,
        sam=sam,
        warm_up=warm_up,
        view_batch=view_batch,
        lora=lora,
        i_lora=i_lora,
        reglora=reglora,
        locas=locas,
    )

    refuse_unused(options)
    given = Dataset.open(new) if (Path(new) / "dataset.json").is_file() else _source(new)
    done = update_index(index, given, options, old=None if old is None else Dataset.open(old))
    manifest, difference = done.manifest, done.difference
    counts = {
        name: 0 if difference is None else len(getattr(difference, name))
        for name in ("added", "changed", "unchanged")
    }
    metrics = dict(manifest.metrics) if done.wrote else {}
    probe = metrics.pop("probe", None)
    metrics.pop("best", None)
    rows: list[tuple[str, object]] = [*counts.items(), ("documents", manifest.documents)]
    rows += list(metrics.items())
    if probe:
        rows += [
            (f"Hits@10 of old documents {moment}", probe[moment]["Success@10"])
            for moment in ("before", "after")
        ]
    for name, values in done.timing.items():
        rows += [(f"{name}, {part}", value) for part, value in values.items()]
    live = f"version {manifest.version} is live"
    return TableReport(
        data={
            "index": str(index),
            "version": manifest.version,
            "wrote": done.wrote,
            **counts,
            "documents": manifest.documents,
            "metrics": dict(manifest.metrics) if done.wrote else {},
            "warnings": done.warnings,
            "left_out": done.left_out,
            "timing": dict(done.timing),
        },
        title=f"{index}: {live}" if done.wrote else f"{index}: nothing is new; {live}",
        columns=("", ""),
        rows=rows,
        closing=(
            *(f"WARNING: {warning}" for warning in done.warnings),
            *done.left_out,
            f"back again: dsi rollback {index}",
        ),
    )


def _source(argument: str) -> Callable[[Path], Dataset]:
    """Returns what writes any source that `dsi prepare` reads by itself into a folder."""
    from data_prep.dataset import write_dataset
    from data_prep.sources import detect

    source = detect(argument)

    def write(folder: Path) -> Dataset:
        return write_dataset(folder, source)

    return write
