"""`retrain`: trains a model from scratch on all documents.

The reference for other strategies. Documents keep their identifiers.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from dsi.updating.plan import Update
from dsi.updating.strategies.base import STRATEGIES, Outcome, Standalone


class Retrain(Standalone):
    """Trains with the options of the first training, on all documents and stored queries."""

    name = "retrain"
    fourier = True
    ignores = frozenset({"ratio", "new_fraction"})

    def run(self, update: Update, work: Path) -> Outcome:
        """Trains in its own folder, and resumes there after an interruption."""
        from dsi.backbones.backbone import load_backbone
        from dsi.distributed.processes import Processes
        from dsi.index_folder import versions
        from dsi.indexing.build import train_index
        from dsi.indexing.preparation import LEXICAL
        from dsi.lexical.layer_builder import LexicalIndex
        from dsi.text_encoders.stored_text_encoder import open_text_encoder

        asked = update.options
        training = update.training
        loop, optimizer = training.loop, training.optimizer
        if asked.steps is not None:
            loop = dataclasses.replace(loop, steps=asked.steps)
        loop = loop.of_size(asked.batch)
        if asked.lr is not None:
            optimizer = dataclasses.replace(optimizer, lr=asked.lr)
        options = dataclasses.replace(
            training,
            docids=update.assignment.table.kind,
            # A training of zero steps reads no pseudo-queries.
            generator=(update.generator or "none") if loop.steps else "none",
            per_doc=asked.per_doc or training.per_doc,
            loop=loop,
            optimizer=optimizer,
        )
        # Training covers live documents only; weights belong to codes, not to table rows.
        docids = work / "live-docids"
        given = update.assignment
        built = dataclasses.replace(given.built, table=given.table.without_retired())
        Processes().in_main_process(lambda: dataclasses.replace(given, built=built).save(docids))
        out = work / "retrained"
        manifest = train_index(update.corpus.dataset, out, options, docids)
        folder = versions.folder(out, manifest.version)
        reached = {**manifest.metrics, "batch": manifest.metrics["examples"] // max(loop.total, 1)}
        if (folder / LEXICAL).is_dir():
            live = given.table.live
            whole = LexicalIndex.open(folder / LEXICAL).placed(live, len(given.table))
            Processes().in_main_process(lambda: whole.save(work / LEXICAL))
        model, text = load_backbone(folder / "model"), open_text_encoder(folder / "text")
        return Outcome(model, text, reached, afresh=True)


STRATEGIES.register("retrain")(Retrain())
