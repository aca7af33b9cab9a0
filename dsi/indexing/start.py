"""Resolves the model that a training starts from: that of learned identifiers, or another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data_prep.checks import given, refuse_unread
from data_prep.errors import InputError
from data_prep.files import read_json
from docids.assignment import MODEL
from docids.kinds import KINDS, kinds_where
from dsi.indexing.own_tokens import with_token_rows

if TYPE_CHECKING:
    from data_prep.dataset import Dataset
    from dsi.indexing.options import TrainingOptions


MIN_LABELED_QUERIES = 200
"""Minimum number of labeled training queries to learn from."""
DEFAULT_STEPS = 160
"""Default optimizer steps of a network that cannot rank without training."""
_OF_A_STEP = (
    "batch",
    "tokens",
    "accumulation",
    "length_buckets",
    "label_smoothing",
    "gradient_checkpointing",
    "checkpoint_every",
)
"""Options of the loop that have no effect with zero steps."""


def default_generator(dataset: Dataset) -> str:
    """Returns the generator that "auto" stands for: selective if labels suffice to learn from."""
    enough = dataset.info.qrels.get("train", 0) >= MIN_LABELED_QUERIES
    return "selective" if enough else "extractive"


def refuse_unused(options: TrainingOptions, docids_folder: Path | None) -> None:
    """Refuses options of identifiers that this training does not assign.

    Args:
        options: Options as given by the user.
        docids_folder: Identifiers that exist, or will exist when training begins.

    Raises:
        InputError: An option belongs to another kind than the one assigned here or in the folder.
    """
    if docids_folder is None:
        kind, chosen = options.docids, f"--docids {options.docids}"
        options.refuse_unused(kind, chosen)
    else:
        kind, chosen = None, f"--docids {docids_folder}"
        options.refuse_unused(kind, chosen)
        file = docids_folder / "docids.json"
        found = read_json(file).get("kind") if file.is_file() else options.docids
        if options.docids not in (type(options).docids, found):
            raise InputError(
                f"--docids is {options.docids}, but the identifiers in {docids_folder} are {found}",
                hint="Omit one of the two",
            )
    if kind is None or not KINDS[kind].uses_vectors:
        of_vectors = ", ".join(kinds_where(lambda each: each.uses_vectors))
        hint = f"Omit it: it applies to the kinds {of_vectors}"
        refuse_unread(options, ["embedding"], f"with {chosen}", hint=hint)


def resolve_start(options: TrainingOptions, docids_folder: Path | None) -> TrainingOptions:
    """Returns options with the number of steps and the warm start `learned` resolved.

    If an encoder-decoder was, or will be, trained with the identifiers, `auto` selects it; small
    networks over document vectors have none.

    Args:
        options: Options as given by the user.
        docids_folder: Existing identifiers; None to assign those of `options.docids`.

    Raises:
        InputError: Another network is requested as well, or `learned` is requested but there is
            none.
    """
    options = with_token_rows(_with_start(options, docids_folder), docids_folder)
    options = _with_score(options)
    asked = _given_step_option(options)
    if options.loop.steps == 0 and asked is not None:
        raise InputError(
            f"--{asked} affects only the training of the network, but --loop.steps is 0",
            hint="Omit one of them",
        )
    if options.loop.steps is not None:
        return options
    ranks = options.model.start == "encoder" or (
        options.model.start == "spectral" and options.lexical.enabled
    )
    steps = 0 if ranks and asked is None else DEFAULT_STEPS
    if steps == 0:
        refuse_unread(
            options.loop,
            _OF_A_STEP,
            "if the network is not trained, which is the default for this index",
            hint="Omit it, or set the number of training steps with --loop.steps",
        )
    return replace(options, loop=replace(options.loop, steps=steps))


def _given_step_option(options: TrainingOptions) -> str | None:
    """Returns the first given option that affects only training steps; None without one."""
    # Search reads queries of this length, too, and the lexical layer learns from chains.
    elsewhere = {"mix.query_length"} | ({"mix.chains"} if options.lexical.enabled else set())
    if options.generator not in ("auto", "none"):
        return "generator"
    for group in ("mix", "rehearsal", "objectives", "optimizer", "lora", "sam"):
        for name in given(getattr(options, group)):
            if f"{group}.{name}" not in elsewhere:
                return f"{group}.{name}"
    return None


def _with_score(options: TrainingOptions) -> TrainingOptions:
    """Returns options with `loop.score` resolved.

    With a softmax over the whole alphabet, a code that is the only continuation costs as much as
    any other until training has adapted to it: long identifiers would rank last.
    """
    if options.loop.score != "auto":
        return options
    in_place = (
        options.model.start in ("spectral", "encoder") and not options.objectives.needs_teacher
    )
    score: Literal["model", "constrained"] = "constrained" if in_place else "model"
    return replace(options, loop=replace(options.loop, score=score))


def _with_start(options: TrainingOptions, docids_folder: Path | None) -> TrainingOptions:
    model = options.model
    brings = codes_model(options, docids_folder) is not None
    if model.warm_start == "learned" and not brings:
        whose = f"--docids {options.docids}" if docids_folder is None else str(docids_folder)
        raise InputError(
            f"--model.warm_start learned starts from the encoder-decoder that the identifiers were "
            f"trained with, but those of {whose} were trained without one",
            hint="Use --docids learned --learned.model NAME, or another --model.warm_start",
        )
    if model.warm_start != "auto" or not brings:
        return options
    model.refuse_other_networks()
    return replace(options, model=replace(model, warm_start="learned"))


def codes_model(options: TrainingOptions, docids_folder: Path | None) -> str | None:
    """Returns the encoder-decoder that codes are trained with, to copy its shape; None without one.

    Args:
        options: How identifiers are assigned if none exist yet.
        docids_folder: Identifiers that exist, or will exist when training begins.
    """
    if docids_folder is not None:
        return str(docids_folder / MODEL) if (docids_folder / MODEL).is_dir() else None
    return KINDS[options.docids].encoder_decoder(options.of_kind(options.docids))
