"""`refit`: the network and its output rows computed anew from all documents, without training.

The spectral warm start (`dsi.rows.spectral`) is in closed form and takes seconds: an update can
repeat it on all documents, old and new, so that their words have vectors as if all had been there
from the beginning. Training is what it replaces: the output rows follow from the softmax regression
of `kernel` on samples of all documents. Each update starts from the corpus and not from the weights
before it, so that nothing is lost from one update to the next.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from dsi.updating.strategies.base import STRATEGIES, Outcome, Standalone, Update
from dsi.updating.strategies.kernel import blocks_of, samples_of, tokens_of, write_rows


class Refit(Standalone):
    """Repeats the spectral warm start, and solves for all output rows."""

    name = "refit"
    reads = frozenset({"refit"})
    ignores = frozenset({"ratio", "new_fraction", "steps", "batch", "lr"})
    plain_head = True
    fourier = True

    def run(self, update: Update, work: Path) -> Outcome:
        """Computes the network from the documents, and the rows from samples of them.

        Raises:
            InputError: The network was not built from scratch, there is no generator, or a document
                has neither samples nor a text.
        """
        from dsi.updating.structures.softmax_regression import softmax_rows

        began = time.perf_counter()
        options = update.options.refit
        model = network_of(update)
        started = time.perf_counter()
        samples, from_text = samples_of(update, self.name, options.samples)
        blocks = blocks_of(model, update, tokens_of(update, samples, options.subsets))
        before = model.get_output_embeddings().weight.detach().float()
        rows = softmax_rows(blocks, before, options.lam, options.iterations)
        write_rows(model, rows)
        ended = time.perf_counter()
        reached = {
            "steps": 0,
            "batch": 0,
            "samples": sum(map(len, samples.values())),
            "samples of text": from_text,
            "solved": len({int(code) for block in blocks for code in block.allowed}),
        }
        per_document = 1000 / max(1, len(update.new_rows))
        milliseconds = {
            "warm start": (started - began) * per_document,
            "solving": (ended - started) * per_document,
            "all": (ended - began) * per_document,
        }
        return Outcome(
            model, update.text, reached, {"milliseconds a document": milliseconds}, afresh=True
        )


def network_of(update: Update) -> Any:
    """Returns a new network after the spectral warm start on all live documents.

    Raises:
        InputError: The network of the index was not built from scratch, or is too narrow.
    """
    from dsi.backbones.backbone import from_scratch, text_rows
    from dsi.rows import WARM_STARTS, Corpus

    options = update.training.model
    if options.pretrained is not None or options.encoder is not None:
        raise InputError(
            "--strategy refit computes a network from the documents, and that of this index was "
            "pretrained",
            hint="Use --strategy kernel, which keeps the network",
        )
    rows = update.text.vocabulary_size
    if update.training.reserve:
        rows = max(rows, text_rows(update.load_parent()))
    model = from_scratch(
        options.size,
        text_vocabulary=rows,
        alphabet_size=update.assignment.table.alphabet_size,
        dropout=options.dropout,
        seed=update.options.seed,
    )
    # A retired row has no text, and would count as a document in inverse document frequencies.
    table = update.assignment.table
    live, all_of = table.live.tolist(), Corpus.of(update.documents)
    corpus = dataclasses.replace(
        all_of,
        table=table.without_retired(),
        tokens=[all_of.tokens[row] for row in live],
        title_tokens=[all_of.title_tokens[row] for row in live],
        title_weight=options.title_weight,
        latent_weight=options.latent_weight,
    )
    WARM_STARTS["spectral"].start(model, corpus, update.options.seed)
    return model.eval()


STRATEGIES.register("refit")(Refit())
