"""Assembles a training run: network, batches, terms of the loss, optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.checks import given
from data_prep.dataset import Dataset
from data_prep.errors import InputError
from data_prep.evidence import judged_examples
from data_prep.progress import note
from docids.kinds import KINDS
from dsi.indexing.network_weight import choose_factor, scale_logits
from dsi.indexing.options import TrainingOptions
from dsi.indexing.preparation import TEACHER_SCORES, TrainingInputs
from dsi.training.options import BACKBONE_LR_SCALE, OptimizerOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from docids.table import DocidTable
    from dsi.data.examples import Examples
    from dsi.lexical.training_scores import ExampleScores
    from dsi.teachers.scores import TeacherScores
    from dsi.training.loop import Run


def make_training_run(
    dataset: Dataset, work: Path, options: TrainingOptions, prepared: TrainingInputs
) -> Run:
    """Returns the training run.

    Args:
        dataset: The corpus and its queries.
        work: Working folder.
        options: Training options.
        prepared: Results of the preparation steps.

    Raises:
        InputError: An option does not fit the network or the identifiers.
    """
    import torch

    from docids.trie import Trie
    from dsi.backbones.backbone import drops
    from dsi.data.batching import Batches
    from dsi.data.examples import gather_examples, labeled_rows, per_identifier, task_proportions
    from dsi.objectives.base import Targets
    from dsi.objectives.loss_terms import make_objectives
    from dsi.search.torch_trie import TorchTrie
    from dsi.training.checkpoints import steps_saved
    from dsi.training.loop import Run

    table = prepared.assignment.table
    examples = gather_examples(
        dataset,
        prepared.documents,
        options.mix,
        generator=prepared.generator,
        seed=options.seed,
        rehearsal=options.rehearsal,
    )
    examples = {task: per_identifier(each, table) for task, each in examples.items()}
    shares = task_proportions(options.mix, options.rehearsal)
    labeled = None
    if options.mix.negatives == "labeled" and "labeled" in examples:
        labeled, _ = table.numbers_of(labeled_rows(dataset, table))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trie = TorchTrie.from_trie(Trie.build(table), device)
    model: Any = _make_model(options, prepared, fresh=not steps_saved(work / "checkpoints"))
    if options.objectives.r_drop.weight and not drops(model):
        raise InputError(
            f"--objectives.r_drop.weight {options.objectives.r_drop.weight} compares two passes "
            f"through dropout, but {prepared.checkpoint or options.model.encoder!r} has none",
            hint="Omit the term",
        )
    return Run(
        model=model.to(device),
        batches=Batches(
            examples, shares, options.loop.size, options.seed, tokens=options.loop.tokens
        ),
        targets=replace(
            Targets.of(
                table.matrix(),
                table.alphabet_size,
                labeled,
                trie if options.loop.score == "constrained" else None,
            ),
            lexical=_example_scores(dataset, prepared, options, examples),
        ),
        objectives=make_objectives(
            options.objectives,
            label_smoothing=options.loop.label_smoothing,
            teacher_scores=_teacher_scores(work, examples, options),
        ),
        trie=trie,
        dev=_dev_queries(dataset, prepared, options),
        documents=_evaluation_documents(prepared, options),
        optimizer=optimizer_of(options, table.kind),
        loop=options.loop,
        seed=options.seed,
        folder=work,
        sam=options.sam,
    )


def _example_scores(
    dataset: Dataset,
    prepared: TrainingInputs,
    options: TrainingOptions,
    examples: Mapping[str, Examples],
) -> ExampleScores | None:
    """Returns the lexical scores of all examples for identifiers of one code; otherwise None."""
    from dsi.data.examples import TASKS, task_queries
    from dsi.lexical.training_scores import ExampleScores

    table = prepared.assignment.table
    if prepared.lexical is None or not _one_code_each(table):
        return None
    queries = task_queries(dataset, table, options.mix, prepared.generator)
    ordered = [*TASKS, *(task for task in examples if task not in TASKS)]
    texts: list[str] = []
    for task in ordered:
        if task in examples:
            texts += queries[task][0] if task in queries else [""] * len(examples[task])
    return ExampleScores.of(prepared.lexical, texts, np.asarray(table.codes, np.int64))


def without_training(
    dataset: Dataset, work: Path, options: TrainingOptions, prepared: TrainingInputs
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Returns the initial network, and its results on the dev queries.

    Args:
        dataset: The corpus and its queries.
        work: Working folder.
        options: Training options.
        prepared: Results of the preparation steps.
    """
    import torch

    from docids.trie import Trie
    from dsi.search.torch_trie import TorchTrie
    from dsi.training.log import Log
    from dsi.training.validation import validate

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model: Any = _make_model(options, prepared, fresh=True)
    model = model.to(device).eval()
    reached: dict[str, Any] = {"steps": 0, "examples": 0}
    log = Log(work, 0, active=True, track=options.loop.track)
    dev = _dev_queries(dataset, prepared, options)
    if dev is not None:
        trie = TorchTrie.from_trie(Trie.build(prepared.assignment.table), device)
        if _has_free_weight(prepared, options):
            codes = np.asarray(prepared.assignment.table.codes, np.int64)
            factor = choose_factor(model, dev, codes)
            scale_logits(model, factor)
            reached["network_weight"] = factor
            if factor != 1:
                note(
                    f"the network counts {factor:g} times as much as by default: {len(dev)} dev "
                    "queries rank better"
                )
        measured = validate(model, dev, trie, options.loop.beams, options.loop.score)
        log.evaluation(0, measured)
        reached["best"] = {"step": 0, **measured}
    log.close()
    return model, reached


def _has_free_weight(prepared: TrainingInputs, options: TrainingOptions) -> bool:
    """Returns whether the weight of the network beside the lexical layer can be chosen."""
    if prepared.lexical is None or not _one_code_each(prepared.assignment.table):
        return False
    weights = {"encoder": "encoder_weight", "spectral": "latent_weight"}
    weight = weights.get(options.model.start)
    return weight is not None and weight not in given(options.model)


def _one_code_each(table: DocidTable) -> bool:
    return bool(table.one_each and (table.lengths == 1).all())


def _teacher_scores(
    work: Path, examples: Mapping[str, Examples], options: TrainingOptions
) -> TeacherScores | None:
    """Opens the teacher scores, if the loss needs them."""
    if not options.objectives.needs_teacher:
        return None
    from dsi.teachers.scores import TeacherScores

    first = len(examples.get("indexing", ()))
    teacher_scores = TeacherScores.open(
        work / TEACHER_SCORES, options.objectives.teacher.temperature, first
    )
    assert len(teacher_scores.rows) == sum(
        len(examples.get(task, ())) for task in ("pseudo", "labeled")
    )
    return teacher_scores


_TOKENS_PER_RESERVED_CODE = 16
"""Encoder rows for words to come, for each code of `--reserve`."""
_BACKBONE_LR_SCALES = {"spectral": 0.0, "encoder": 1.0}
"""Learning-rate multiplier of the backbone with atomic identifiers, by warm start."""


def backbone_lr_scale(options: TrainingOptions, kind: str) -> float:
    """Returns the learning-rate multiplier of the backbone, the default unless the user sets one.

    With one code per document, the rows of words and documents can hold everything that a latent
    model has to learn, and training the backbone costs accuracy and time.
    """
    if options.optimizer.backbone_lr_scale is not None:
        return options.optimizer.backbone_lr_scale
    if KINDS[kind].form == "atomic" and options.model.start in _BACKBONE_LR_SCALES:
        return _BACKBONE_LR_SCALES[options.model.start]
    return BACKBONE_LR_SCALE


def optimizer_of(options: TrainingOptions, kind: str) -> OptimizerOptions:
    """Returns the optimizer options of the first training, with defaults resolved."""
    share = backbone_lr_scale(options, kind)
    if options.lora.rank and options.optimizer.backbone_lr_scale is None:
        share = 1.0  # adapters are small and start at zero
    return replace(options.optimizer, backbone_lr_scale=share, **_frozen_parts(options, kind))


def _frozen_parts(options: TrainingOptions, kind: str) -> dict[str, Any]:
    """Resolves which parts of the network are frozen if the user has not set them.

    A pretrained encoder can rank without training. Labels train only weights that all documents
    share, so that documents without labeled queries stay comparable.
    """
    asked, behind = options.optimizer, options.model.start == "encoder"
    shared = behind and KINDS[kind].form == "atomic"
    frozen, decoder, rows = asked.freeze_encoder, asked.decoder, asked.rows
    if frozen is None:
        frozen = behind and not options.lora.rank
    return {
        "freeze_encoder": frozen,
        "decoder": decoder or ("cross-attention" if shared else "all"),
        "rows": rows or ("frozen" if shared else "all"),
    }


def _make_model(
    options: TrainingOptions, prepared: TrainingInputs, *, fresh: bool
) -> PreTrainedModel:
    """Builds or loads the network; a run resumed from a checkpoint needs no warm start."""
    from dsi.backbones.backbone import (
        from_encoder,
        from_pretrained,
        from_scratch,
        refuse_small_vocabulary,
    )

    table = prepared.assignment.table
    if prepared.checkpoint is not None:
        model = from_pretrained(
            prepared.checkpoint,
            alphabet_size=table.alphabet_size,
            decoder_layers=options.model.decoder_layers,
            seed=options.seed,
            code_tokens=prepared.code_tokens,
        )
        refuse_small_vocabulary(model, prepared.text, prepared.checkpoint)
        _refuse_long_texts(model, options, prepared)
    elif options.model.encoder is not None:
        from dsi.backbones.loaded_encoder import load_encoder

        model = from_encoder(
            load_encoder(options.model.encoder).encoder,
            alphabet_size=table.alphabet_size,
            weight=options.model.encoder_weight,
            seed=options.seed,
        )
        refuse_small_vocabulary(model, prepared.text, options.model.encoder)
    else:
        model = from_scratch(
            options.model.size,
            text_vocabulary=prepared.text.vocabulary_size,
            alphabet_size=table.alphabet_size,
            dropout=options.model.dropout,
            seed=options.seed,
        )
    if fresh:
        from dsi.rows import WARM_STARTS, Corpus
        from dsi.training.loop import hardware_precision

        corpus = replace(
            Corpus.of(prepared.documents),
            title_weight=options.model.title_weight,
            latent_weight=options.model.latent_weight,
            codebooks=prepared.codebooks,
            codes=prepared.codes,
            vectors=prepared.vectors,
            precision=hardware_precision(options.loop.precision),
        )
        WARM_STARTS[options.model.start].start(model, corpus, options.seed)
    if options.reserve and prepared.text.is_extensible:
        from dsi.rows.model_expansion import add_rows

        tokens = prepared.text.vocabulary_size + _TOKENS_PER_RESERVED_CODE * options.reserve
        add_rows(model, tokens, table.alphabet_size, options.seed)
    return with_extras(model, options)


def _refuse_long_texts(
    model: PreTrainedModel, options: TrainingOptions, prepared: TrainingInputs
) -> None:
    """Raises InputError if a checkpoint has fewer positions than the maximum text length."""
    from dsi.backbones.backbone import longest_text
    from dsi.backbones.language_model import is_prompted

    positions, prompt_length = longest_text(model), prepared.text.prompt_length
    if is_prompted(model):  # it reads identifiers after the text
        prompt_length += 1 + prepared.assignment.table.matrix().shape[1]
    for name in ("query_length", "document_length"):
        wanted = getattr(options.mix, name)
        if positions is None or wanted + prompt_length <= positions:
            continue
        room = positions - prompt_length
        with_prompt = f" with {prompt_length} of prompt and identifier" if prompt_length else ""
        raise InputError(
            f"--mix.{name} {wanted}{with_prompt} exceeds the {positions} tokens that "
            f"{prepared.checkpoint!r} can read",
            hint=f"Give at most {room}" if room > 0 else "Use a shorter --model.prompt",
        )


def with_extras(model: PreTrainedModel, options: TrainingOptions) -> PreTrainedModel:
    """Adds the modules that the options request to a network, in place."""
    if options.model.head == "pawa":
        from dsi.backbones.pawa import add_pawa

        model = add_pawa(model, options.model.head_layers, seed=options.seed)
    if options.lora.rank:
        from dsi.training.optimization.lora import add_adapters

        add_adapters(
            model,
            options.lora,
            seed=options.seed,
            encoder=not _frozen_parts(options, options.docids)["freeze_encoder"],
        )
    return model


def _dev_queries(dataset: Dataset, prepared: TrainingInputs, options: TrainingOptions) -> Any:
    """Returns a seeded sample of the dev split, or None if it is empty.

    With `--mix.chains`, it has the later hops as well: judged by first hops alone, a checkpoint
    that has learned them would not be kept.
    """
    from dsi.training.validation import DevQueries

    mix = options.mix
    if mix.chains == "none":
        texts = dataset.query_texts()
        pairs = [
            (texts[query_id], max(relevant, key=lambda doc_id: relevant[doc_id]))
            for query_id, relevant in dataset.qrels_of("dev").items()
            if query_id in texts and max(relevant.values()) > 0
        ]
    else:
        pairs = judged_examples(dataset, "dev", mix.chains, mix.query_length)
    if not pairs:
        return None
    rng = np.random.default_rng([options.seed, 8])
    picked = rng.permutation(len(pairs))[: options.loop.evaluate_queries]
    rows = prepared.assignment.table.find([pairs[number][1] for number in picked])
    asked = [pairs[number][0] for number in picked]
    return DevQueries.of(asked, rows.tolist(), prepared.text, mix.query_length, prepared.lexical)


def _evaluation_documents(prepared: TrainingInputs, options: TrainingOptions) -> Any:
    """Returns a seeded sample of the documents, or None if none are tracked."""
    from dsi.training.validation import DevQueries

    if not options.loop.evaluate_documents:
        return None
    rng = np.random.default_rng([options.seed, 9])
    tokens, length = prepared.documents.tokens, options.mix.document_length
    rows = rng.permutation(len(tokens))[: options.loop.evaluate_documents].tolist()
    return DevQueries([prepared.text.part(tokens[row], 0, length) for row in rows], rows)
