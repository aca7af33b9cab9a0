"""Everything that a user can set about training; the text under a field is its help."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from data_prep.checks import check_choices, check_numbers
from data_prep.errors import InputError
from dsi.backbone import FORMER_SIZES, SIZES

DEFAULT_BATCH = 512
"""Examples per step where nothing else is said."""
BODY_SHARE = 0.05
"""Share of the learning rate that the body of a network gets by default."""


@dataclass(frozen=True)
class ModelOptions:
    """The network."""

    size: str = "latent"
    """Shape of a T5 from scratch: latent, tiny, mini, small, base or large"""
    pretrained: str | None = None
    """Hub id or path of an encoder-decoder (T5, mT5, BART, ...) to start from instead"""
    encoder: str | None = None
    """Hub id or path of a pretrained encoder of texts, with its own pooling and prompts: BERT,
    MiniLM, E5, BGE, ModernBERT, XLM-R, a folder of sentence-transformers, or static embeddings
    (model2vec). A decoder is put behind it, and rows of codes start from its vectors of the
    documents"""
    encoder_weight: float = 16.0
    """Logit of a document whose vector by --model.encoder points where the query's does"""
    decoder_layers: int | None = None
    """Layers of a pretrained model's decoder that are kept, the first ones; all by default (NCI
    keeps 6 of 12)"""
    head: str = "linear"
    """Output layer: linear, or pawa, whose weights depend on the codes before (NCI), for T5 and mT5
    and identifiers of several codes"""
    head_layers: int = 4
    """Layers of the small decoder that reads these codes for pawa"""
    warm_start: str = "auto"
    """spectral (from scratch), encodings (pretrained), learned (the encoder-decoder that learned
    identifiers were trained with, and their codebooks), encoder (the vectors of --model.encoder) or
    none; auto takes the one that fits"""
    codebooks: bool = False
    """Start the rows of codes from the codebooks of rq or pq (RIPOR), brought into the model's
    space, instead of the mean of the documents that have the code"""
    title_weight: int = 2
    """How often a document's title counts beside its text in the spectral warm start"""
    latent_weight: float = 2.0
    """Logit of a document whose vector points where the query's does, at the spectral warm start"""
    dropout: float = 0.0
    """Share of hidden values dropped in training a model from scratch"""

    def __post_init__(self) -> None:
        if self.size in FORMER_SIZES:
            raise InputError(
                f"--model.size {self.size} is no longer there",
                hint=f"Take --model.size {FORMER_SIZES[self.size]}, the default: its width does "
                "not follow the corpus",
            )
        check_numbers(
            self,
            "model",
            positive=("encoder_weight", "latent_weight"),
            at_least_one=("decoder_layers", "head_layers", "title_weight"),
            below_one=("dropout",),
        )
        check_choices(
            self,
            "model",
            size=tuple(SIZES),
            warm_start=("auto", "spectral", "encodings", "learned", "encoder", "none"),
            head=("linear", "pawa"),
        )
        self._check_encoder()
        if self.warm_start == "learned":
            self.refuse_other_networks()
        if self.pretrained is not None and self.warm_start == "spectral":
            raise InputError(
                "--model.warm_start spectral would overwrite --model.pretrained",
                hint="Take --model.warm_start encodings, or drop --model.pretrained",
            )
        if self.start != "spectral" and self.latent_weight != ModelOptions.latent_weight:
            raise InputError(
                f"--model.latent_weight {self.latent_weight} changes nothing: it belongs to the "
                f"spectral warm start, and this one is {self.start}",
                hint="Leave it out, or take --model.warm_start spectral",
            )
        if self.decoder_layers is not None and self.pretrained is None:
            raise InputError(
                f"--model.decoder_layers {self.decoder_layers} cuts a pretrained model, and there "
                "is none",
                hint="Give --model.pretrained, or choose a --model.size",
            )
        if self.head == "linear" and self.head_layers != 4:
            raise InputError(
                f"--model.head_layers {self.head_layers} changes nothing while --model.head is "
                "linear",
                hint="Leave it out, or take --model.head pawa",
            )
        if self.head == "pawa" and self.start == "spectral":
            raise InputError(
                "--model.head pawa is trained with the rest of a network, and a spectral warm "
                "start makes one that hardly needs training",
                hint="Take --model.pretrained or --model.size tiny, or --model.head linear",
            )

    def _check_encoder(self) -> None:
        """Refuses what does not go with a pretrained encoder, or means nothing without one."""
        if self.encoder is None:
            if self.warm_start == "encoder":
                raise InputError(
                    "--model.warm_start encoder starts from the vectors of a pretrained encoder, "
                    "and there is none",
                    hint="Give --model.encoder, or take another --model.warm_start",
                )
            if self.encoder_weight != ModelOptions.encoder_weight:
                raise InputError(
                    f"--model.encoder_weight {self.encoder_weight} changes nothing without "
                    "--model.encoder",
                    hint="Leave it out, or give --model.encoder",
                )
            return
        if self.warm_start not in ("auto", "encoder"):
            raise InputError(
                f"--model.warm_start {self.warm_start} does not start from the vectors of "
                f"--model.encoder {self.encoder}",
                hint="Leave one of them out",
            )
        for name in ("pretrained", "size", "dropout", "decoder_layers", "head"):
            value = getattr(self, name)
            if value != getattr(ModelOptions, name):
                raise InputError(
                    f"--model.{name} {value} and --model.encoder {self.encoder} both say what the "
                    "network is",
                    hint="Leave one of them out",
                )

    def refuse_other_networks(self) -> None:
        """Raises InputError where another network is asked for than that of the identifiers."""
        for name in ("pretrained", "encoder", "size", "dropout"):
            value = getattr(self, name)
            if value != getattr(ModelOptions, name):
                raise InputError(
                    f"--model.{name} {value} says what the network is, and learned identifiers "
                    "bring the one that they were trained with (--model.warm_start learned)",
                    hint=f"Leave --model.{name} out, or choose another --model.warm_start: "
                    "spectral, encodings or none",
                )

    @property
    def start(self) -> str:
        """The warm start that is meant: a name in `dsi.warm_starts.WARM_STARTS`."""
        if self.warm_start != "auto":
            return self.warm_start
        if self.encoder is not None:
            return "encoder"
        if self.pretrained is not None:
            return "encodings"
        return "spectral" if self.size == "latent" else "none"


@dataclass(frozen=True)
class MixOptions:
    """What a batch is made of: three shares, of which only the proportions count."""

    indexing: float = 0.0
    """Share of the indexing task (document text -> docid)"""
    pseudo: float = 0.85
    """Share of pseudo-queries (-> docid)"""
    labelled: float = 0.15
    """Share of labelled training queries (-> docid); passed on to pseudo where there are none"""
    ratio: float | None = None
    """DSI's r, indexing : the rest (32 there), in place of --mix.indexing"""
    document_length: int = 64
    """Tokens of a document that the indexing task reads: its first ones"""
    chunks: int = 0
    """Random chunks of that length per document that the indexing task reads besides"""
    query_length: int = 32
    """Tokens of a query that are read, in training and in search; the prompt of --model.encoder is
    read besides"""
    negatives: str = "labelled"
    """Against which identifiers a labelled query is trained: labelled (those of documents that
    have labelled queries, so that the others are not pushed down) or all"""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            "mix",
            not_negative=("indexing", "pseudo", "labelled", "ratio", "chunks"),
            at_least_one=("document_length", "query_length"),
        )
        check_choices(self, "mix", negatives=("labelled", "all"))
        if self.ratio is not None and self.indexing:
            raise InputError(
                f"--mix.ratio {self.ratio} and --mix.indexing {self.indexing} both say how much "
                "is indexing",
                hint="Leave one of them out",
            )
        if self.ratio is not None and not (self.pseudo or self.labelled):
            raise InputError(
                f"--mix.ratio {self.ratio} of --mix.pseudo 0 and --mix.labelled 0 is nothing",
                hint="Give queries a share, or --mix.indexing 1 in place of the ratio",
            )
        if not (self.indexing or self.pseudo or self.labelled):
            raise InputError(
                "--mix.indexing, --mix.pseudo and --mix.labelled are all 0",
                hint="Give one of them a share",
            )

    @property
    def shares(self) -> dict[str, float]:
        """The share of each task, the ratio counted in; only the proportions count."""
        indexing = self.indexing
        if self.ratio is not None:
            indexing = self.ratio * (self.pseudo + self.labelled)
        return {"indexing": indexing, "pseudo": self.pseudo, "labelled": self.labelled}


@dataclass(frozen=True)
class OptimiserOptions:
    """How weights move."""

    name: str = "adamw"
    """adamw or adafactor"""
    lr: float = 3e-5
    """Highest learning rate"""
    body: float | None = None
    """Learning rate of all but embeddings and output rows, as a share of lr; 0 freezes it. By
    default 0 after a spectral warm start with atomic identifiers, 1 with atomic identifiers behind
    --model.encoder, else 0.05: wide matrices are moved by every example, a token's or a document's
    row by few"""
    layer_decay: float = 1.0
    """Each layer's learning rate, as a share of that of the layer above it; encoder and decoder
    count from their own top, and the text embedding is the encoder's lowest layer"""
    freeze_encoder: bool | None = None
    """Leave the encoder, text embedding included, as it is; by default true for --model.encoder,
    unless --lora.rank gives it adapters, else false"""
    decoder: str | None = None
    """Which layers of the decoder move: all, or cross-attention (what all documents share: how the
    query is read). By default cross-attention with atomic identifiers behind --model.encoder, else
    all"""
    schedule: str = "linear"
    """What follows the warm-up: linear (to 0), cosine (to 0), constant or inverse-sqrt"""
    warmup: int = 20
    """Steps over which the learning rate rises from 0"""
    weight_decay: float = 0.0
    """Decoupled weight decay"""
    beta2: float = 0.99
    """AdamW's memory of squared gradients"""
    clip: float = 1.0
    """Largest norm of a step's gradient; 0 for no limit"""
    rows: str | None = None
    """Which rows of the embeddings of tokens and codes AdamW moves: all, touched (those that the
    batch reads; the others and their moments rest), or frozen (none of codes, so that documents
    with and without labelled queries stay comparable). By default frozen with atomic identifiers
    behind --model.encoder, else all"""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            "optimiser",
            positive=("lr",),
            not_negative=("body", "warmup", "weight_decay", "clip"),
            below_one=("beta2",),
            share=("layer_decay",),
        )
        check_choices(
            self,
            "optimiser",
            name=("adamw", "adafactor"),
            schedule=("linear", "cosine", "constant", "inverse-sqrt"),
            decoder=("all", "cross-attention"),
            rows=("all", "touched", "frozen"),
        )
        if self.rows == "touched" and self.name != "adamw":
            raise InputError(
                f"--optimiser.rows touched is a way of AdamW, and --optimiser.name is {self.name}",
                hint="Take --optimiser.name adamw, or --optimiser.rows all",
            )


@dataclass(frozen=True)
class LoraOptions:
    """Low-rank adapters (LoRA) in place of moving the body of the network."""

    rank: int = 0
    """Rank of the adapters; 0 for none. They are merged into the weights of the index"""
    alpha: int | None = None
    """Their scale times the rank; by default twice the rank"""
    dropout: float = 0.0
    """Share of an adapter's input values dropped in training"""
    targets: list[str] = field(default_factory=list)
    """Names of the linear layers that get one, such as q,v; by default all but the output layer"""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            "lora",
            not_negative=("rank",),
            at_least_one=("alpha",),
            below_one=("dropout",),
        )
        if not self.rank and (self.alpha is not None or self.dropout or self.targets):
            raise InputError(
                "--lora is set, but --lora.rank is 0, which is no adapter",
                hint="Give --lora.rank, for example 8",
            )


@dataclass(frozen=True)
class LoopOptions:
    """How long, how large, how precise, how safe."""

    steps: int | None = None
    """Optimiser steps of the network. By default 0 for the small network from scratch and behind
    --model.encoder, which rank before any step and whose lexical layer is trained by itself,
    unless a generator or an option of mix, rehearsal, objectives, optimiser, lora or sam is given;
    else 160"""
    batch: int | None = None
    """Examples per step, over all processes and accumulation steps; 512 unless --loop.tokens says
    how many"""
    tokens: int | None = None
    """Most tokens of text per step, padding counted in, in place of --loop.batch: as many examples
    as fit, texts of like lengths together"""
    accumulation: int = 1
    """Parts that a batch is worked through in, to save memory"""
    length_groups: int = 4
    """Most groups of texts of like lengths that each part is divided into, so that little is
    padding: for attention in T5 and mT5, else (and with --deepspeed) each in a pass of its own,
    where that saves more than it costs; the gradient is the same"""
    precision: str = "auto"
    """bf16, fp32, or auto: bf16 where the hardware multiplies it natively"""
    label_smoothing: float = 0.0
    """Share of the target that is spread over the docid alphabet"""
    gradient_checkpointing: bool = False
    """Compute hidden states again in the backward pass instead of keeping them: less memory, about
    a third more time"""
    check_memory: bool = True
    """Refuse a training whose first step, by an estimate, would not fit into memory"""
    evaluate_every: int = 0
    """Steps between evaluations on the dev split; 0: four times in all. The best is kept"""
    evaluate_queries: int = 500
    """Most dev queries that an evaluation during training asks"""
    evaluate_documents: int = 0
    """Documents whose texts an evaluation asks for too: which are memorised, and which have been
    forgotten since the evaluation before; 0 for none"""
    wandb: str | None = None
    """Project in Weights & Biases to log to, besides the TensorBoard files"""
    checkpoint_every: int = 0
    """Steps between checkpoints; 0: eight times in all"""
    beams: int = 20
    """Width of the beam search, in evaluation and as the index's default"""
    score: str = "auto"
    """What cross-entropy and search compare a code with: model (all codes, as published),
    constrained (the codes that may follow the same prefix), or auto: constrained for a network
    that starts from the vectors of the documents (latent, or --model.encoder), else model"""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            "loop",
            not_negative=("steps", "evaluate_every", "evaluate_documents", "checkpoint_every"),
            at_least_one=(
                "batch",
                "tokens",
                "accumulation",
                "length_groups",
                "evaluate_queries",
                "beams",
            ),
            below_one=("label_smoothing",),
        )
        check_choices(
            self,
            "loop",
            precision=("auto", "bf16", "fp32"),
            score=("auto", "model", "constrained"),
        )
        if self.batch is not None and self.tokens is not None:
            raise InputError(
                f"--loop.batch {self.batch} and --loop.tokens {self.tokens} both say how much a "
                "step reads",
                hint="Leave one of them out, or give it as null",
            )
        if self.size is not None and self.accumulation > self.size:
            raise InputError(
                f"--loop.accumulation {self.accumulation} parts of --loop.batch {self.size}",
                hint="Take no more parts than there are examples",
            )

    @property
    def size(self) -> int | None:
        """Examples per step; None where tokens are counted."""
        return None if self.tokens is not None else (self.batch or DEFAULT_BATCH)

    @property
    def total(self) -> int:
        """Optimiser steps, where they have been decided (`dsi.indexing.start.decided`)."""
        assert self.steps is not None
        return self.steps

    def of_size(self, batch: int | None, **changes: Any) -> LoopOptions:
        """Returns these options with other ones, and so many examples per step unless None."""
        if batch is not None:
            changes |= {"batch": batch, "tokens": None}
        return replace(self, **changes)

    @property
    def evaluation_interval(self) -> int:
        """Steps between evaluations."""
        return self.evaluate_every or max(1, self.total // 4)

    @property
    def checkpoint_interval(self) -> int:
        """Steps between checkpoints."""
        return self.checkpoint_every or max(1, self.total // 8)


@dataclass(frozen=True)
class SamOptions:
    """Sharpness-aware minimisation: flat minima, in which less is forgotten."""

    rho: float = 0.0
    """How far weights are perturbed before the gradient is taken; 0: not at all. 0.05 is usual,
    0.15 with --sam.adaptive"""
    adaptive: bool = False
    """Measure the perturbation in units of each weight's own size (ASAM)"""
    every: int = 1
    """Perturb in every so manyth step; the steps between cost what they always cost"""
    fraction: float = 1.0
    """Share of the batch whose gradient points the way of the perturbation; less is cheaper"""
    weights: str = "all"
    """Which weights are perturbed: all, rows (embeddings and output rows), body (all but these),
    encoder, decoder or norms"""
    perturbation: str = "global"
    """With several processes: global (one perturbation, by the gradient of the whole batch) or
    process (each its own, by the gradient of its part: m-sharpness)"""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            "sam",
            not_negative=("rho",),
            at_least_one=("every",),
            share=("fraction",),
        )
        check_choices(
            self,
            "sam",
            weights=("all", "rows", "body", "encoder", "decoder", "norms"),
            perturbation=("global", "process"),
        )
        for entry in fields(self):
            if not self.rho and getattr(self, entry.name) != entry.default:
                raise InputError(
                    f"--sam.{entry.name} changes nothing while --sam.rho is 0",
                    hint="Give --sam.rho 0.05, or 0.15 with --sam.adaptive",
                )

    def due(self, step: int) -> bool:
        """Whether step `step` (from 0) perturbs."""
        return self.rho > 0 and step % self.every == 0
