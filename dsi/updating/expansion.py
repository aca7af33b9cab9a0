"""The initial model of an update: the parent's model, expanded for the new documents."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from docids.model_tokens import code_tokens
from dsi.rows.corpus import Corpus
from dsi.rows.model_expansion import expand
from dsi.rows.new_documents import NewDocuments
from dsi.updating.plan import Update

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def new_documents_of(update: Update) -> NewDocuments:
    """Returns the inputs to model expansion for this update."""
    return NewDocuments(
        corpus=replace(
            Corpus.of(update.documents), title_weight=update.training.model.title_weight
        ),
        rows=update.new_rows,
        known_tokens=update.known_tokens,
        known_codes=update.known_codes(),
        code_tokens=code_tokens(update.assignment.built),
    )


def expanded_model(update: Update, model: PreTrainedModel | None = None) -> PreTrainedModel:
    """Returns the parent's model with rows for the new documents; deterministic.

    Args:
        update: The update.
        model: The parent's model, if it is loaded already; changed in place.
    """
    return expand(
        update.load_parent() if model is None else model,
        new_documents_of(update),
        start=update.training.model.start,
        text_vocabulary=update.text.vocabulary_size,
        seed=update.options.seed,
    )
