"""`dsi train`: from a dataset to an index."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from data_prep.rehearsal import RehearsalOptions
from docids.embeddings import EmbeddingOptions
from docids.kinds.options import KindOptions
from dsi.arguments import SPREAD
from dsi.objectives.options import ObjectiveOptions
from dsi.report import Report, TableReport
from dsi.text_encoder import VocabularyOptions
from dsi.training.options import (
    LoopOptions,
    LoraOptions,
    MixOptions,
    ModelOptions,
    OptimiserOptions,
    SamOptions,
)

if TYPE_CHECKING:
    from dsi.training.plan import Plan

_EMBEDDING = EmbeddingOptions()
_MODEL = ModelOptions()
_VOCABULARY = VocabularyOptions()
_MIX = MixOptions()
_REHEARSAL = RehearsalOptions()
_OBJECTIVES = ObjectiveOptions()
_OPTIMISER = OptimiserOptions()
_LORA = LoraOptions()
_LOOP = LoopOptions()
_KINDS = KindOptions()
_SAM = SamOptions()


def train(
    dataset: Path,
    *,
    out: Path,
    docids: str = "atomic",
    docids_folder: Path | None = None,
    memory_folder: Path | None = None,
    generator: str = "auto",
    per_doc: int = 40,
    seed: int = 0,
    kinds: Annotated[KindOptions, SPREAD] = _KINDS,
    embedding: EmbeddingOptions = _EMBEDDING,
    model: ModelOptions = _MODEL,
    vocabulary: VocabularyOptions = _VOCABULARY,
    mix: MixOptions = _MIX,
    rehearsal: RehearsalOptions = _REHEARSAL,
    objectives: ObjectiveOptions = _OBJECTIVES,
    optimiser: OptimiserOptions = _OPTIMISER,
    lora: LoraOptions = _LORA,
    loop: LoopOptions = _LOOP,
    dry_run: bool = False,
    documents: int | None = None,
    sam: SamOptions = _SAM,
    deepspeed: Path | None = None,
) -> Report:
    """Trains an index on a dataset; run again after an interruption, it continues.

    Steps that are missing are done first: pseudo-queries, identifiers, vocabulary. The same
    dataset, options and seed give the same index.

    Args:
        dataset: The folder of the dataset.
        out: The folder of the index.
        docids: Kind of identifiers: atomic, naive, semantic, rq, pq, learned, description,
            keywords, title, url or random.
        docids_folder: Identifiers made with `dsi docids`, instead of new ones.
        memory_folder: A generative memory to keep with the index; default the dataset's own.
        generator: Whose pseudo-queries: extractive, selective, none; auto takes selective where
            there are enough labelled queries to learn from, else extractive. Those of seq2seq
            and memory must have been made with `dsi queries`, and are used as they are.
        per_doc: Pseudo-queries per document.
        seed: Of everything drawn at random.
        kinds: Options of each kind of identifiers.
        embedding: How documents become vectors, for semantic, random, rq, pq and learned.
        model: The network.
        vocabulary: The vocabulary of a model from scratch.
        mix: What a batch is made of.
        rehearsal: What the indexing task reads besides documents.
        objectives: What the loss is made of.
        optimiser: How weights move.
        lora: Low-rank adapters.
        loop: How long, how large, how precise.
        dry_run: Check options, and the dataset where it is there, say what would be done and how
            much memory it asks for, and do nothing.
        documents: With --dry-run: how many documents to reckon with where the dataset is not there.
        sam: Sharpness-aware minimisation.
        deepspeed: A DeepSpeed file, for processes started by torchrun (configs/deepspeed).
    """
    from data_prep.dataset import Dataset
    from data_prep.errors import InputError
    from dsi.training.build import TrainingOptions, train_index

    options = TrainingOptions(
        **vars(kinds),
        docids=docids,
        embedding=embedding,
        generator=generator,
        per_doc=per_doc,
        seed=seed,
        model=model,
        vocabulary=vocabulary,
        mix=mix,
        rehearsal=rehearsal,
        objectives=objectives,
        optimiser=optimiser,
        lora=lora,
        loop=loop,
        sam=sam,
    )
    if dry_run:
        from dsi.training.plan import plan_training

        return _planned(plan_training(dataset, options, docids_folder, documents))
    if documents is not None:
        raise InputError("--documents means nothing without --dry-run", mend="Leave it out")
    manifest = train_index(
        Dataset.open(dataset), out, options, docids_folder, memory_folder, deepspeed
    )
    metrics = dict(manifest.metrics)
    best = metrics.pop("best", None)
    rows = [("documents", manifest.documents), *metrics.items()]
    if best is not None:
        rows += [(f"best dev {name}", value) for name, value in best.items()]
    return TableReport(
        data={
            "index": str(out),
            "version": manifest.version,
            "documents": manifest.documents,
            **manifest.metrics,
        },
        title=f"index of {manifest.dataset['name']}",
        columns=("", ""),
        rows=rows,
        closing=(
            f'search it: dsi search {out} "your query"',
            f"measure it: dsi evaluate {out} {dataset} --split test",
        ),
    )


def _planned(plan: Plan) -> Report:
    gib = None if plan.memory is None else plan.memory / 2**30
    rows = [
        ("documents", plan.documents),
        ("parameters", plan.parameters),
        ("GiB for weights, gradients and optimiser, a process", gib),
        ("examples", plan.examples),
        *((f"share of {task}", share) for task, share in plan.shares.items()),
    ]
    return TableReport(
        data=asdict(plan), title="dry run", columns=("", ""), rows=rows, closing=plan.steps
    )
