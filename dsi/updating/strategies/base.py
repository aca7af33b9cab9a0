"""What a strategy is: the interface, the plan that it shapes, and which go together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from data_prep.registry import Registry

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from docids.assignment import Assignment
    from dsi.indexing.options import TrainingOptions
    from dsi.objectives.base import Objective
    from dsi.search.document_scores import DocumentScores
    from dsi.stored_corpus import StoredCorpus
    from dsi.text_encoder import TextEncoder
    from dsi.training.options import LoopOptions, OptimizerOptions
    from dsi.updating.options import UpdateOptions
    from dsi.versions import Manifest


@dataclass(frozen=True)
class Update:
    """An update under way, as strategies see it.

    Attributes:
        options: What the user asked for.
        parent: Folder of the version that grows.
        manifest: Its manifest.
        training: The options of the first training.
        text: The encoder of texts, with the words of new documents.
        known_tokens: How many tokens the encoder had before.
        assignment: All identifiers.
        corpus: All documents and queries, old and new.
        generator: Whose pseudo-queries `corpus` has; None where it has none.
        tokens: Token ids of the document of every table row, title first; empty where retired.
        titles: The title of every row.
        new_rows: Rows of documents that are new or changed, ascending; int64 [new].
        lexical: The lexical layer, with the new documents; None without.
    """

    options: UpdateOptions
    parent: Path
    manifest: Manifest
    training: TrainingOptions
    text: TextEncoder
    known_tokens: int
    assignment: Assignment
    corpus: StoredCorpus
    generator: str | None
    tokens: Sequence[Sequence[int]]
    titles: Sequence[str]
    new_rows: npt.NDArray[np.int64]
    lexical: DocumentScores | None = None

    @property
    def old_rows(self) -> npt.NDArray[np.int64]:
        """Rows of the documents that the model knows, ascending; int64 [old]."""
        return np.setdiff1d(self.assignment.table.live, self.new_rows)

    def is_new(self) -> npt.NDArray[np.bool_]:
        """Returns which rows of the table are new; bool [rows]."""
        marks = np.zeros(len(self.assignment.table), bool)
        marks[self.new_rows] = True
        return marks

    def known_codes(self) -> int:
        """Returns how many codes the version before had; new ones come after them."""
        from docids.assignment import Assignment

        return Assignment.open(self.parent / "assignment").table.alphabet_size

    def load_parent(self) -> PreTrainedModel:
        """Loads the model of the version before, on the CPU, in evaluation mode."""
        from dsi.backbone import load_backbone

        return load_backbone(self.parent / "model")


@dataclass
class Plan:
    """The training of an update while strategies shape it, in the order they are named.

    Attributes:
        update: What it is for.
        model: The grown model.
        queries: Query task ("pseudo", "labelled") -> its share among queries.
        old: Whether examples are drawn of old documents, too.
        objectives: Terms that are added to the loss.
        main: The term that is the loss proper; None for cross-entropy.
        optimizer: How weights move.
        loop: How long.
        schedule: Changes the share of new documents over time: (step, steps) -> factor.
        views: Views of a document in a batch; 1 where examples are drawn singly.
        before_training: What is done to the model just before the first step or after a
            checkpoint was found, such as adding hooks.
        after_training: What is done to the model after the last step.
        more: Further fields of the training run, such as those of SAM.
        strategy_state: Strategy -> tensors that it stores with the new version
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
    views: int = 1
    before_training: list[Callable[[PreTrainedModel], None]] = field(default_factory=list)
    after_training: list[Callable[[PreTrainedModel], PreTrainedModel]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    strategy_state: dict[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)

    def tasks(self) -> dict[str, float]:
        """Returns every task's share of a batch: `ratio` texts of documents for each query."""
        queries = sum(self.queries.values())
        texts = self.update.options.ratio * queries if queries else 1.0
        return {name: share for name, share in {"indexing": texts, **self.queries}.items() if share}


class Strategy(ABC):
    """A way to keep an index while it grows, or a part of one.

    Attributes:
        name: What the user writes.
        role: What it decides: "examples" (what is learned from; one or more are needed),
            "loss", "schedule", "structure", "optimizer", or "all" (it stands alone).
        excludes: Names of strategies that it cannot be joined with, besides those of its own
            role where the role is "structure" or "all".
        reads: Groups of `UpdateOptions` that are about it.
        ignores: Options of every update that would change nothing with it.
        plain_head: Whether it knows no output layer but the plain one.
    """

    name: ClassVar[str]
    role: ClassVar[str]
    excludes: ClassVar[frozenset[str]] = frozenset()
    reads: ClassVar[frozenset[str]] = frozenset()
    ignores: ClassVar[frozenset[str]] = frozenset()
    plain_head: ClassVar[bool] = False

    @abstractmethod
    def shape(self, plan: Plan) -> None:
        """Writes into the plan what the strategy decides."""


@dataclass(frozen=True)
class Outcome:
    """What a strategy has made.

    Attributes:
        model: The model of the new version.
        text: The encoder of texts that goes with it.
        reached: What the manifest says of it: at least `steps` and `batch`.
        timing: What differs from run to run and is shown only.
        strategy_state: Strategy -> what it keeps with the new version.
        afresh: Whether nothing of the model before is in this one, so that what strategies kept
            with it means nothing any more.
    """

    model: PreTrainedModel
    text: TextEncoder
    reached: Mapping[str, Any]
    timing: Mapping[str, Any] = field(default_factory=dict)
    strategy_state: Mapping[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)
    afresh: bool = False


class Standalone(Strategy):
    """A strategy that needs no training loop around it."""

    role = "all"

    def shape(self, plan: Plan) -> None:
        """Never called: there is no plan."""
        raise AssertionError(f"{self.name} has no plan")

    @abstractmethod
    def run(self, update: Update, work: Path) -> Outcome:
        """Makes the model of the new version.

        Args:
            update: What it is for.
            work: A folder for what is under way; an interrupted run finds it as it left it.
        """


STRATEGIES: Registry[Strategy] = Registry("strategy", group="dsi.update_strategies")


def parse_strategies(text: str) -> list[Strategy]:
    """Returns the strategies that a text names with plus signs between them.

    Raises:
        InputError: One is unknown or named twice, two do not go together, or none of them says
            what is learned from.
    """
    names = [name.strip() for name in text.split("+")]
    found = [STRATEGIES[name] for name in names]
    for place, strategy in enumerate(found):
        for other in found[:place]:
            if other is strategy:
                raise InputError(f"--strategy names {strategy.name!r} twice")
            alone = "all" in (strategy.role, other.role)
            both = strategy.role == other.role == "structure"
            named = other.name in strategy.excludes or strategy.name in other.excludes
            if alone or both or named:
                raise InputError(
                    f"--strategy {other.name} and {strategy.name} do not go together",
                    hint=f"Leave one of them out of {text!r}",
                )
    if not any(strategy.role in ("examples", "all") for strategy in found):
        choices = [name for name in STRATEGIES if STRATEGIES[name].role == "examples"]
        raise InputError(
            f"--strategy {text!r} does not say what is learned from",
            hint=f"Join it with one of: {', '.join(choices)}",
        )
    return found


def refuse_other_heads(strategies: Sequence[Strategy], head: str) -> None:
    """Refuses strategies that know the plain output layer only, where the index has another.

    Args:
        strategies: Of an update.
        head: `--model.head` of the index.

    Raises:
        InputError: One of them is such a strategy.
    """
    for strategy in strategies:
        if strategy.plain_head and head != "linear":
            raise InputError(
                f"--strategy {strategy.name} knows the plain output layer only, and this index was "
                f"trained with --model.head {head}",
                hint="Take another --strategy, such as generative",
            )
