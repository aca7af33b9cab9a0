"""An update in progress, and its training plan, which strategies modify."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from docids.assignment import Assignment
    from dsi.index_folder.stored_corpus import StoredCorpus
    from dsi.index_folder.versions import Manifest
    from dsi.indexing.options import TrainingOptions
    from dsi.objectives.base import Objective
    from dsi.search.document_scores import DocumentScores
    from dsi.text_encoders.text_encoder import TextEncoder
    from dsi.text_encoders.tokenized_corpus import TokenizedCorpus
    from dsi.training.options import LoopOptions, OptimizerOptions
    from dsi.updating.options import UpdateOptions


@dataclass(frozen=True)
class Update:
    """An update in progress, as seen by strategies.

    Attributes:
        options: Options of the update.
        parent: Folder of the parent version.
        manifest: Its manifest.
        training: The options of the first training.
        known_tokens: Vocabulary size before the update.
        assignment: All identifiers.
        corpus: All documents and queries, old and new.
        generator: Name of the generator of the pseudo-queries in `corpus`; None if there are none.
        documents: The documents of all table rows; the text encoder has the words of new ones.
        new_rows: Rows of documents that are new or changed, ascending; int64 [new].
        lexical: The lexical layer, with the new documents; None without.
    """

    options: UpdateOptions
    parent: Path
    manifest: Manifest
    training: TrainingOptions
    known_tokens: int
    assignment: Assignment
    corpus: StoredCorpus
    generator: str | None
    documents: TokenizedCorpus
    new_rows: npt.NDArray[np.int64]
    lexical: DocumentScores | None = None

    @property
    def text(self) -> TextEncoder:
        """The text encoder, with the words of new documents."""
        return self.documents.text

    @property
    def old_rows(self) -> npt.NDArray[np.int64]:
        """Rows of the documents already in the model, ascending; int64 [old]."""
        return np.setdiff1d(self.assignment.table.live, self.new_rows)

    def is_new(self) -> npt.NDArray[np.bool_]:
        """Returns which rows of the table are new; bool [rows]."""
        marks = np.zeros(len(self.assignment.table), bool)
        marks[self.new_rows] = True
        return marks

    def known_codes(self) -> int:
        """Returns the number of codes of the parent version in use; new codes follow them."""
        from docids.assignment import Assignment

        return Assignment.open(self.parent / "assignment").table.next_code

    def load_parent(self) -> PreTrainedModel:
        """Loads the parent's model, on the CPU, in evaluation mode."""
        from dsi.backbones.backbone import load_backbone

        return load_backbone(self.parent / "model")


@dataclass
class Plan:
    """The training plan of an update; strategies modify it in the order they are named.

    Attributes:
        update: The update.
        model: The expanded model.
        queries: Query task ("pseudo", "labeled") -> its share among queries.
        old: Whether old documents are sampled, too.
        objectives: Additional terms of the loss.
        main: The main term of the loss; None for cross-entropy.
        optimizer: Optimizer options.
        loop: Options of the training loop.
        schedule: Schedule of the fraction of new documents: (step, steps) -> multiplier.
        before_training: Called on the model just before the first step or after a checkpoint is
            found, for example to add hooks.
        after_training: Called on the model after the last step.
        more: Other fields of the training run, such as those of SAM.
        strategy_state: Strategy -> tensors stored with the new version
            (`dsi.updating.strategy_state`); `after_training` may write into it.
    """

    update: Update
    model: PreTrainedModel
    optimizer: OptimizerOptions
    loop: LoopOptions
    queries: dict[str, float] = field(default_factory=dict)
    old: bool = False
    objectives: list[Objective] = field(default_factory=list)
    main: Objective | None = None
    schedule: Callable[[int, int], float] | None = None
    before_training: list[Callable[[PreTrainedModel], None]] = field(default_factory=list)
    after_training: list[Callable[[PreTrainedModel], PreTrainedModel]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    strategy_state: dict[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)

    def tasks(self) -> dict[str, float]:
        """Returns every task's fraction of a batch: `ratio` document texts per query."""
        queries = sum(self.queries.values())
        texts = self.update.options.ratio * queries if queries else 1.0
        return {name: share for name, share in {"indexing": texts, **self.queries}.items() if share}
