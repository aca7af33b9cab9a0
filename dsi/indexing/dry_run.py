"""Dry run of a training: steps, sizes and memory, without doing any work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.dataset import Dataset
from data_prep.errors import InputError, command_line
from data_prep.generators import GENERATORS
from docids.kinds import KINDS
from dsi.data.examples import task_proportions
from dsi.indexing.start import MIN_LABELED_QUERIES, codes_model, resolve_start
from dsi.text_encoders.text_encoder import check_words

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dsi.indexing.options import TrainingOptions

FULL_PRECISION = 4
"""Bytes per weight."""


@dataclass(frozen=True)
class Plan:
    """The plan of a training.

    Attributes:
        steps: Steps in order, one sentence each.
        documents: Number of documents; None if the dataset does not exist yet.
        parameters: Number of parameters of the network; None if the checkpoint is not available.
        memory: Bytes of weights, gradients and optimizer states per process; None if the number of
            parameters is unknown. Activations are not included.
        proportions: Task -> fraction of a batch.
        examples: Total number of training examples; None if --loop.tokens is set.
    """

    steps: list[str]
    documents: int | None
    parameters: int | None
    memory: int | None
    proportions: dict[str, float]
    examples: int | None


def plan_training(
    dataset: Path,
    options: TrainingOptions,
    docids_folder: Path | None = None,
    documents: int | None = None,
    out: Path | None = None,
) -> Plan:
    """Checks everything that can be checked before work starts, and returns the plan.

    Args:
        dataset: The folder of the dataset, which may not exist yet.
        options: Training options, as for `train_index`.
        docids_folder: Identifiers written by `dsi docids`, which may not exist yet.
        documents: Number of documents to assume if the dataset does not exist.
        out: The folder of the index; it must not hold anything else.

    Raises:
        InputError: An option does not fit the existing data.
    """
    from dsi.indexing.build import refuse_conflicts
    from dsi.indexing.preparation import check_codebooks

    opened = Dataset.open(dataset) if dataset.exists() else None
    labeled = 0 if opened is None else opened.info.qrels.get("train", 0)
    made = docids_folder is None or (docids_folder / "docids.json").is_file()
    if out is not None and opened is not None and made:
        refuse_conflicts(opened, out, options, docids_folder)
    options = resolve_start(options, docids_folder)
    check_codebooks(options, docids_folder)
    steps: list[str] = []
    if opened is None:
        steps.append(f"first: {command_line('prepare', 'SOURCE', '--out', dataset)}")
    else:
        documents = opened.info.documents
        if options.model.pretrained is None and options.model.encoder is None:
            texts = (document.title_and_text for document in opened.documents())
            check_words(texts, options.vocabulary.language)
    steps += _queries_step(opened, dataset, options)
    if docids_folder is None:
        steps.append(f"assign {options.docids} identifiers")
    elif (docids_folder / "docids.json").is_file():
        steps.append(f"read the identifiers in {docids_folder}")
    else:
        steps.append(f"first: {command_line('docids', dataset, '--out', docids_folder)}")
    shares = task_proportions(options.mix, options.rehearsal)
    if opened is not None and not opened.info.qrels.get("train"):
        shares["labeled"] = 0.0
    if options.generator == "none":
        shares["pseudo"] = 0.0
    total = sum(shares.values())
    if not total and options.loop.total:
        raise InputError(
            "nothing to train on: no task with a proportion above 0 has examples",
            where=dataset,
            hint="Set --mix.pseudo or --mix.indexing above 0",
        )
    loop = options.loop
    if options.lexical.enabled:
        written = options.generator in GENERATORS and GENERATORS[options.generator].expensive
        source = "labeled queries" if labeled >= MIN_LABELED_QUERIES else "pseudo-queries"
        trained = options.lexical.steps and (labeled >= MIN_LABELED_QUERIES or written)
        how = f"at most {options.lexical.steps} steps on the {source}" if trained else "none"
        steps.append(f"weight the words of the documents (training: {how})")
    size = f"{loop.size:,} examples" if loop.size else f"at most {loop.tokens:,} tokens of text"
    steps.append(f"train {loop.total:,} steps of {size}" if loop.total else "build the network")
    started = options.model.pretrained
    if options.model.start == "learned":
        steps.insert(-1, "start from the model that the identifiers were trained with")
        started = codes_model(options, docids_folder)
    network = _network(options, documents, started)
    parameters = memory = None
    if network is not None:
        parameters = sum(weight.numel() for weight in network.parameters())
        memory = parameters * FULL_PRECISION + _states(network, options)
    return Plan(
        steps,
        documents,
        parameters,
        memory,
        {task: share / total for task, share in shares.items() if share} if loop.total else {},
        loop.total * loop.size if loop.size else None,
    )


def _queries_step(opened: Dataset | None, dataset: Path, options: TrainingOptions) -> list[str]:
    name = options.generator
    if name == "none" or not options.mix.pseudo or not options.loop.total:
        return []
    if name == "auto":
        return [f"generate {options.per_doc} pseudo-queries per document (selective or extractive)"]
    if opened is not None and name in opened.generators:
        return [f"read the pseudo-queries of {name}"]
    if GENERATORS[name].expensive:
        return [f"first: {command_line('queries', dataset, '--generator', name)}"]
    return [f"generate {options.per_doc} pseudo-queries per document ({name})"]


def _states(network: PreTrainedModel, options: TrainingOptions) -> int:
    """Returns the bytes of gradients and optimizer states for the trained weights."""
    from dsi.indexing.assembly import optimizer_of
    from dsi.training.memory_estimate import state_bytes
    from dsi.training.optimization.optimizers import parameter_groups

    groups = parameter_groups(network, optimizer_of(options, options.docids))
    return state_bytes(
        sum(weight.numel() for group in groups for weight in group["params"]),
        optimizer=options.optimizer.name,
        sam=options.sam.rho > 0,
    )


def _network(
    options: TrainingOptions, documents: int | None, checkpoint: str | None
) -> PreTrainedModel | None:
    """Builds the network on the meta device; None if its shape is unknown."""
    import torch

    from dsi.backbones.backbone import empty_network, from_encoder, from_scratch, pretrained_config
    from dsi.backbones.pooled_encoder import PooledEncoder
    from dsi.indexing.assembly import with_extras

    encoder = None
    if options.model.encoder is not None:
        from dsi.backbones.loaded_encoder import load_encoder

        encoder = load_encoder(options.model.encoder)  # it refuses invalid values
    kind = KINDS[options.docids]
    alphabet = kind.expected_alphabet(options.of_kind(options.docids), documents)
    if alphabet is None:
        return None
    alphabet += options.reserve
    try:
        with torch.device("meta"):
            if encoder is not None:
                model: Any = from_encoder(
                    PooledEncoder(encoder.encoder.settings), alphabet_size=alphabet, weight=1.0
                )
            elif checkpoint is None:
                model = from_scratch(
                    options.model.size,
                    text_vocabulary=options.vocabulary.size,
                    alphabet_size=alphabet,
                )
            else:
                config = pretrained_config(checkpoint, options.model.decoder_layers)
                model = empty_network(config, alphabet)
            return with_extras(model, options)
    except InputError:
        raise
    except (OSError, ValueError):
        return None  # a hub id that this machine cannot reach: the training will report it
