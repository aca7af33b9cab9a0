"""`prompts`: the network is frozen; an update trains prompts for the topics of new documents.

PromptDSI (Huynh et al., ECML PKDD 2025): a pool of prefix prompts with fixed keys, of which a query
takes the one whose key is nearest to its embedding (`dsi.text_encoders.prompt_pool`). Keys are
k-means centroids of the pseudo-queries of a corpus. New documents bring keys with new prompts; the
documents of the first training have keys without, so that most of their queries are read as before.
Only new prompts and the rows of new codes are trained. Prefix tuning of peft has one prompt for all
inputs, and key-value prefixes that the decoders of a search do not read, so that it does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.errors import InputError
from dsi.updating.plan import Plan, Update
from dsi.updating.strategies.base import STRATEGIES, Strategy

if TYPE_CHECKING:
    import numpy.typing as npt

    from dsi.text_encoders.prompt_pool import PromptPool

_ITERATIONS = 20


class Prompts(Strategy):
    """Adds prompts to the pool, and blocks the gradients of everything else but new rows."""

    name = "prompts"
    role = "structure"
    reads = frozenset({"prompts"})
    excludes = frozenset({"finetune", "reindex"})  # prompts stand before queries

    def shape(self, plan: Plan) -> None:
        """Extends the text encoder and the embedding of the plan.

        Raises:
            InputError: There are no pseudo-queries, or the network is no plain encoder-decoder, or
                was trained with weight decay.
        """
        import torch

        from dsi.backbones.language_model import is_prompted
        from dsi.backbones.pooled_encoder import pooled
        from dsi.rows.model_expansion import add_rows

        model: Any = plan.model
        update = plan.update
        if pooled(model) or is_prompted(model):
            raise InputError(
                "--strategy prompts trains rows of the encoder's embedding, which it cannot add "
                "to a language model or to --model.encoder",
                hint="Use another --strategy, such as generative+lora",
            )
        if plan.optimizer.weight_decay:
            raise InputError(
                "--strategy prompts and a weight decay cannot be combined",
                hint="Train the index with --optimizer.weight_decay 0",
            )
        if update.generator is None:
            raise InputError(
                "--strategy prompts needs pseudo-queries, and there are none",
                hint="Choose a --generator",
            )
        embedding = model.get_encoder().get_input_embeddings()
        pool = pool_of(update)
        new = np.setdiff1d(pool.prompts, [-1, *_prompts_of(update)])
        known = update.known_codes()
        add_rows(model, pool.vocabulary_size, len(model.get_output_embeddings().weight), 0)
        with torch.no_grad():
            # Random prompts would move every state before the first step.
            embedding.weight[torch.from_numpy(new)] = embedding.weight[: update.known_tokens].mean(
                0
            )
        plan.update = replace(update, documents=replace(update.documents, text=pool))
        plan.optimizer = replace(
            plan.optimizer,
            freeze_encoder=False,
            rows="all",
            lr=update.options.lr or update.options.prompts.lr,
        )

        def block(trained: Any) -> None:
            codes = np.arange(known, len(trained.get_output_embeddings().weight))
            moving = {
                id(trained.get_decoder().get_input_embeddings().weight): codes,
                id(trained.get_output_embeddings().weight): codes,
                id(trained.get_encoder().get_input_embeddings().weight): new,
            }
            for weight in trained.parameters():
                mask = torch.zeros((len(weight), *(1 for _ in weight.shape[1:])))
                mask[torch.from_numpy(moving.get(id(weight), codes[:0]))] = 1
                weight.requires_grad_(True)
                weight.register_hook(lambda gradient, mask=mask: gradient * mask.to(gradient))

        plan.before_training.append(block)


def pool_of(update: Update) -> PromptPool:
    """Returns the pool with keys and prompts for the new documents."""
    from dsi.text_encoders.prompt_pool import PromptPool

    options = update.options.prompts
    queries = [text for _, _, text, _ in update.corpus.pseudo_rows()]
    pool = PromptPool.around(update.text, queries, options.tokens)
    topics = min(options.topics, len(update.new_rows))
    if not len(pool.keys):
        # As many documents a topic as among the new ones.
        old = max(1, round(topics * len(update.old_rows) / len(update.new_rows)))
        keys = _keys(update, pool, update.old_rows, old)
        pool = pool.with_keys(keys, prompted=False)
    return pool.with_keys(_keys(update, pool, update.new_rows, topics), prompted=True)


def _keys(
    update: Update, pool: PromptPool, rows: npt.NDArray[np.int64], topics: int
) -> npt.NDArray[np.float32]:
    """Returns centroids of the pseudo-queries of documents, of length 1."""
    from docids.kinds.clustering import kmeans

    doc_ids = update.assignment.table.doc_ids
    wanted = {doc_ids[row] for row in rows.tolist()}
    asked = [text for _, doc_id, text, _ in update.corpus.pseudo_rows() if doc_id in wanted]
    points = pool.embedded(asked, update.manifest.query_length)
    if not len(points):
        return pool.keys[:0]
    found = kmeans(points, min(topics, len(points)), _ITERATIONS, update.options.seed)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def _prompts_of(update: Update) -> Sequence[int]:
    """Returns the tokens of the prompts that there are already."""
    from dsi.text_encoders.prompt_pool import PromptPool

    text = update.text
    return text.prompts.ravel().tolist() if isinstance(text, PromptPool) else []


STRATEGIES.register("prompts")(Prompts())
