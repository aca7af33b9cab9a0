"""Learned identifiers: codes that are trained for retrieval, position by position (GenRet)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from data_prep.errors import InputError
from data_prep.marks import Advanced, Count, Range
from docids.code_learning import Learner, LearningOptions, Pairs
from docids.kinds.base import KINDS, Built, Documents, Kind
from docids.kinds.codebooks import append_codes, resolve_size, table_of_codes
from docids.kinds.naming import Collisions

if TYPE_CHECKING:
    from docids.code_learning.checkpoint import Checkpoint

_DOCUMENTS_PER_CODE = 8


@dataclass(frozen=True)
class LearnedOptions(LearningOptions):
    """The codebooks, how they are learned, and what happens to documents with equal codes."""

    levels: Advanced[Count] = 3
    """Codes per identifier, each from its own codebook (GenRet: 3)"""
    codebook: Advanced[Annotated[int, Range(ge=2)] | None] = None
    """Codebook size (GenRet: 512); default: 256, or less on a small corpus"""
    generator: Advanced[str] = "auto"
    """Source of the pseudo-queries, generated if missing. auto: those the index is trained on, else
    extractive"""
    collisions: Advanced[Collisions] = "extend"
    """extend: append a number to every identifier; share: let documents share an identifier, and
    return all of them"""


class Learned(Kind):
    """Codes learned so that a query predicts those of its document.

    Sun et al., Learning to Tokenize for Generative Retrieval (GenRet), NeurIPS 2023. GenRet trains
    a T5 with the codes. That is an option here; by default a small network over document vectors
    is trained, in minutes on two cores. See `docids.code_learning`.
    """

    Options = LearnedOptions
    uses_vectors = True
    uses_new_codes = True

    def build(self, documents: Documents, options: LearnedOptions, seed: int) -> Built:
        """Learns the codebooks from the documents and their pseudo-queries.

        Raises:
            InputError: A codebook has collapsed.
        """
        size, notes = resolve_size(
            options.codebook,
            len(documents),
            each=_DOCUMENTS_PER_CODE,
            option="--learned.codebook",
        )
        queries_of = documents.ask(options.generator) if len(documents) else []
        texts = [query for several in queries_of for query in several]
        owners = np.repeat(np.arange(len(documents)), [len(several) for several in queries_of])
        how: dict[str, Any] = {
            "levels": options.levels,
            "size": size,
            "options": options,
            "seed": seed,
            "folder": documents.scratch,
        }
        model = None
        if options.model is not None:
            from docids.code_learning import encoder_decoder
            from docids.code_learning.checkpoint import Checkpoint

            model = Checkpoint.load(
                options.model,
                where="--learned.model",
                hint="Give a hub id, or the folder of a downloaded model",
            )
            arrays, learned = encoder_decoder.train(model, texts, owners, documents.texts, **how)
        else:
            vectors = documents.vectors
            none = np.empty((0, vectors.shape[1]), np.float32)
            queries = documents.embed(texts) if texts else none
            learner, learned = Learner.train(Pairs(vectors, queries, owners), **how)
            arrays = learner.arrays()
        table, numbered = table_of_codes(
            documents.doc_ids, learned.codes, size, kind="learned", options=options
        )
        resolved = {"another code for balance": learned.moved, **numbered}
        return Built(table, arrays, resolved, model, notes, [size] * options.levels)

    def extend(self, built: Built, documents: Documents, seed: int) -> Built:
        """Assigns new documents the codes that the network finds most likely, one after another.

        Raises:
            InputError: The identifiers were saved without their network, or the vectors do not
                match its dimensions.
        """
        options = LearnedOptions(**built.table.options)
        if options.model is not None:
            from docids.code_learning import encoder_decoder

            codes = encoder_decoder.encode(_checkpoint(built), built.extras, documents.texts)
        else:
            codes = Learner.of(built.extras).encode(documents.vectors)
        size = built.extras["codebook"].shape[1]
        table, numbered = append_codes(
            built.table, documents.doc_ids, codes, size, options.collisions
        )
        return Built(table, built.extras, numbered, built.model)

    def encoder_decoder(self, options: LearnedOptions) -> str | None:
        """The model that the user names, if any."""
        return options.model


def _checkpoint(built: Built) -> Checkpoint:
    """Returns the model the codes were trained with.

    Raises:
        InputError: The identifiers were saved without it.
    """
    from docids.code_learning.checkpoint import Checkpoint

    if isinstance(built.model, Checkpoint):
        return built.model
    if built.model is None:
        raise InputError("the stored identifiers have no model", hint="Assign them again")
    return Checkpoint.load(str(built.model), where=built.model, hint="Assign them again")


KINDS.register("learned")(Learned())
