"""All options that determine an index besides the Dataset, and checks of their combinations."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import dsi.generation  # noqa: F401  (registers the generators that need a network)
from data_prep.checks import refuse_unread
from data_prep.errors import InputError
from data_prep.files import read_json
from data_prep.generators import GENERATORS
from data_prep.marks import Advanced, Count, Names, Needs, Seed
from data_prep.rehearsal import RehearsalOptions
from docids.embeddings import EmbeddingOptions
from docids.kind_options import KindOptions
from docids.kinds import KINDS, kinds_where
from dsi.data.options import MixOptions
from dsi.lexical.options import LexicalOptions
from dsi.objectives.options import TEACHER_TERMS, ObjectiveOptions
from dsi.text_encoders.text_encoder import VocabularyOptions
from dsi.training.options import (
    BACKBONE_LR_SCALE,
    LoopOptions,
    LoraOptions,
    ModelOptions,
    OptimizerOptions,
    SamOptions,
)
from dsi.training.trackers import check_trackers


def _described(folder: str) -> Path:
    """Returns the description of the identifiers in a folder, which may not exist."""
    return Path(folder) / "docids.json"


KindName = Annotated[str, Names(lambda: KINDS, other=lambda folder: _described(folder).is_file())]
GeneratorName = Annotated[str, Names(lambda: ("auto", "none", *GENERATORS))]


@dataclass(frozen=True)
class TrainingOptions(KindOptions):
    """All options that determine an index, besides the Dataset.

    Attributes:
        docids: Identifier kind, or a folder of identifiers that `dsi docids` wrote.
        generator: Pseudo-query generator. auto: selective with enough labeled queries to learn
            from, extractive otherwise. Generate those of seq2seq and memory first, with `dsi
            queries`.
        per_doc: Pseudo-queries per document.
        seed: Random seed.
        embedding: Document embeddings, for identifiers made from document vectors.
        lexical: Lexical layer.
        model: Model.
        vocabulary: Vocabulary of a model from scratch.
        mix: Data mix.
        rehearsal: Input of the indexing task.
        objectives: Loss.
        optimizer: Optimizer.
        lora: LoRA.
        loop: Training loop.
        sam: SAM.
    """

    docids: KindName = "atomic"
    generator: GeneratorName = "auto"
    per_doc: Count = 40
    seed: Seed = 0
    embedding: Advanced[EmbeddingOptions] = field(default_factory=EmbeddingOptions)
    lexical: LexicalOptions = field(default_factory=LexicalOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    vocabulary: VocabularyOptions = field(default_factory=VocabularyOptions)
    mix: MixOptions = field(default_factory=MixOptions)
    rehearsal: Advanced[
        Annotated[RehearsalOptions, Needs("mix.reads_documents", shown="--mix.indexing 1")]
    ] = field(default_factory=RehearsalOptions)
    objectives: ObjectiveOptions = field(default_factory=ObjectiveOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    lora: LoraOptions = field(default_factory=LoraOptions)
    loop: LoopOptions = field(default_factory=LoopOptions)
    sam: SamOptions = field(default_factory=SamOptions)

    given_docids: ClassVar[Path | None] = None
    """The folder of identifiers that was given as `docids`; the field is its kind then."""

    def conflicts(self) -> None:
        """Refuses options of different groups that cannot be combined, or have no effect."""
        self._take_folder()
        self.of_kind(self.docids)
        self._check_objectives()
        self._check_backbone()
        self._check_tokens()
        self._check_head()
        if self.optimizer.rows == "touched" and self.sam.rho:
            raise InputError(
                f"--sam.rho {self.sam.rho} perturbs all weights, but --optimizer.rows touched has "
                "gradients of only some rows",
                hint="Omit one of them",
            )
        if self.loop.track is not None:
            check_trackers(self.loop.track)

    def _take_folder(self) -> None:
        """Stores the folder if `docids` names one instead of a kind."""
        if self.docids not in KINDS:
            object.__setattr__(self, "given_docids", Path(self.docids))
            object.__setattr__(self, "docids", read_json(_described(self.docids)).get("kind"))

    def _check_backbone(self) -> None:
        """Refuses options that train the backbone if it is frozen."""
        backbone = self.optimizer.backbone_lr_scale
        if backbone is None and not self.lora.rank:
            latent = self.model.start == "spectral" and KINDS[self.docids].form == "atomic"
            backbone = 0.0 if latent else BACKBONE_LR_SCALE
        ways = {
            f"--lora.rank {self.lora.rank}": self.lora.rank > 0,
            f"--optimizer.layer_decay {self.optimizer.layer_decay}": self.optimizer.layer_decay < 1,
        }
        for way, taken in ways.items():
            if taken and backbone == 0:
                raise InputError(
                    f"{way} trains the backbone, which --optimizer.backbone_lr_scale 0 freezes",
                    hint="Set --optimizer.backbone_lr_scale, for example to 1, or omit the other "
                    "option",
                )

    def _check_head(self) -> None:
        """Refuses an output layer that depends on previous codes if there are none."""
        if self.model.head == "linear":
            return
        form = KINDS[self.docids].form
        if form != "codes":
            fitting = kinds_where(lambda kind: kind.form == "codes")
            raise InputError(
                f"--model.head {self.model.head} requires identifiers of several codes of one "
                f"alphabet, but --docids {self.docids} gives "
                + ("one code" if form == "atomic" else "text"),
                hint=f"Choose --docids from: {', '.join(fitting)}; or --model.head linear",
            )
        if self.lora.rank:
            raise InputError(
                f"--model.head {self.model.head} and --lora.rank {self.lora.rank} cannot be "
                "combined: a search runs the adapted output layer on plain layers only",
                hint="Omit one of them",
            )

    def _check_tokens(self) -> None:
        """Refuses a token budget that a single text may exceed."""
        read = {"query_length": self.mix.pseudo or self.mix.labeled}
        read["document_length"] = self.mix.proportions["indexing"]
        for name, share in read.items():
            length = getattr(self.mix, name)
            if share and self.loop.tokens is not None and self.loop.tokens < length:
                raise InputError(
                    f"--loop.tokens {self.loop.tokens} is less than one text of --mix.{name} "
                    f"{length}",
                    hint=f"Give at least {length}, or many times that for a batch of many texts",
                )

    def _check_objectives(self) -> None:
        """Refuses terms of the loss that have no input under the other options."""
        weights = self.objectives.weights
        if not weights["cross_entropy"]:
            without = "--objectives.cross_entropy.weight"
            refuse_unread(self.loop, ["label_smoothing"], f"without {without}")
        scratch = self.model.pretrained is None and self.model.start not in ("learned", "encoder")
        if weights["r_drop"] and scratch and not self.model.dropout:
            raise InputError(
                f"--objectives.r_drop.weight {weights['r_drop']} compares two passes through "
                "dropout, but --model.dropout is 0",
                hint="Use --model.dropout 0.1, or omit the term",
            )
        if not self.objectives.needs_teacher:
            return
        asking = next(name for name in TEACHER_TERMS if weights[name])
        if self.loop.score == "constrained":
            raise InputError(
                f"--objectives.{asking}.weight {weights[asking]} needs probabilities over the "
                "whole alphabet, but --loop.score is constrained",
                hint="Use --loop.score model, or omit the term",
            )
        if not (self.mix.pseudo or self.mix.labeled):
            raise InputError(
                f"--objectives.{asking}.weight {weights[asking]} needs queries for the teacher, "
                "but --mix.pseudo and --mix.labeled are 0",
                hint="Set one of them above 0, or omit the term",
            )
