"""All training options; the string below a field is its help text."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, TypeVar

from data_prep.checks import Options, given
from data_prep.errors import InputError
from data_prep.marks import (
    LARGEST_RANK,
    Advanced,
    Count,
    Excludes,
    Names,
    Needs,
    NotNegative,
    Positive,
    PositiveShare,
    Range,
    Rate,
    Whole,
)
from dsi.backbones.backbone import FORMER_SIZES, SIZES

T = TypeVar("T")
DEFAULT_BATCH = 512
"""Default number of examples per step."""
BACKBONE_LR_SCALE = 0.05
"""Default learning rate of the backbone, relative to that of embeddings and output rows."""
SizeName = Annotated[str, Names(lambda: SIZES, FORMER_SIZES)]
Pretrained = Annotated[T, Needs("pretrained")]
Spectral = Annotated[T, Needs("start", ("spectral",), "--model.warm_start spectral")]
OtherNetwork = Annotated[T, Excludes("encoder", "both define the network")]


@dataclass(frozen=True)
class ModelOptions(Options, group="model"):
    """The network."""

    size: OtherNetwork[SizeName] = "latent"
    """Shape of the T5 built from scratch"""
    pretrained: OtherNetwork[str | None] = None
    """Pretrained encoder-decoder (T5, mT5, T5Gemma, BART, ...) or language model (Qwen, Llama,
    Gemma, SmolLM, Mistral, GPT-2, OPT) to start from: hub id, path or GGUF file"""
    prompt: Advanced[Pretrained[str | None]] = None
    """Prompt of a language model: a template with {query} in it; chat, for its own chat template;
    or chat:TEMPLATE, for a message in that. By default a line "Query: {query}", then
    "Document:" """
    encoder: str | None = None
    """Pretrained text encoder, to which a decoder is added (BERT, MiniLM, E5, BGE, ModernBERT,
    XLM-R, a sentence-transformers folder, model2vec): hub id or path. Its own pooling and prompts
    are used; muvera:NAME encodes its token states instead of pooling them"""
    encoder_weight: Advanced[Annotated[Positive, Needs("encoder")]] = 16.0
    """Logit of a document whose --model.encoder vector has cosine 1 with the query's"""
    decoder_layers: Advanced[Pretrained[Count | None]] = None
    """Keep the first N decoder layers of the pretrained model; default: all (NCI keeps 6 of 12)"""
    head: Advanced[OtherNetwork[Literal["linear", "pawa"]]] = "linear"
    """Output layer. pawa makes its weights depend on the previous codes (NCI); it needs T5 or mT5
    and identifiers of several codes"""
    head_layers: Advanced[Annotated[Count, Needs("head", ("pawa",))]] = 4
    """Decoder layers that read the previous codes for pawa"""
    warm_start: Literal["auto", "spectral", "encodings", "learned", "encoder", "tokens", "none"] = (
        "auto"
    )
    """Initialization of the network: spectral for a model from scratch, encodings for a pretrained
    one, learned to reuse the model and codebooks of learned identifiers, encoder to use the vectors
    of --model.encoder, tokens for identifiers in a language model's own tokens"""
    codebooks: Advanced[bool] = False
    """Initialize code embeddings from the rq or pq codebooks (RIPOR) instead of document means"""
    title_weight: Advanced[Count] = 2
    """Number of times each title is counted in the spectral warm start"""
    latent_weight: Advanced[Spectral[Positive]] = 2.0
    """Logit of a document whose vector has cosine 1 with the query's in the spectral warm start"""
    dropout: Advanced[OtherNetwork[Rate]] = 0.0
    """Dropout rate of a model trained from scratch"""

    def conflicts(self) -> None:
        """Refuses a warm start that does not fit the network."""
        self._check_encoder()
        if self.warm_start == "learned":
            self.refuse_other_networks()
        if self.pretrained is not None and self.warm_start == "spectral":
            raise InputError(
                "--model.warm_start spectral would overwrite --model.pretrained",
                hint="Use --model.warm_start encodings, or omit --model.pretrained",
            )
        if self.prompt is not None:
            from dsi.text_encoders.prompt_template import check_prompt

            check_prompt(self.prompt)
        if self.head == "pawa" and self.start == "spectral":
            raise InputError(
                "--model.head pawa has to be trained with the network, but a network with a "
                "spectral warm start hardly needs training",
                hint="Use --model.pretrained or --model.size tiny, or --model.head linear",
            )

    def _check_encoder(self) -> None:
        """Refuses a warm start by a pretrained encoder without one, and another one with it."""
        if self.encoder is None:
            if self.warm_start == "encoder":
                raise InputError(
                    "--model.warm_start encoder starts from the vectors of a pretrained encoder, "
                    "and there is none",
                    hint="Give --model.encoder, or use another --model.warm_start",
                )
            return
        if self.warm_start not in ("auto", "encoder"):
            raise InputError(
                f"--model.warm_start {self.warm_start} does not start from the vectors of "
                f"--model.encoder {self.encoder}",
                hint="Omit one of them",
            )

    def refuse_other_networks(self) -> None:
        """Raises InputError if the options name another network than that of the identifiers."""
        for name in ("pretrained", "encoder", "size", "dropout"):
            if name in given(self):
                raise InputError(
                    f"{self.written(name)} defines the network, but learned identifiers "
                    "start from the network that they were trained with (--model.warm_start "
                    "learned)",
                    hint=f"Omit --model.{name}, or choose another --model.warm_start: "
                    "spectral, encodings or none",
                )

    @property
    def start(self) -> str:
        """The selected warm start: a name in `dsi.rows.WARM_STARTS`."""
        if self.warm_start != "auto":
            return self.warm_start
        if self.encoder is not None:
            return "encoder"
        if self.pretrained is not None:
            return "encodings"
        return "spectral" if self.size == "latent" else "none"


@dataclass(frozen=True)
class OptimizerOptions(Options, group="optimizer"):
    """Options of the optimizer."""

    name: Advanced[Literal["adamw", "adafactor"]] = "adamw"
    """Optimizer"""
    lr: Positive = 3e-5
    """Peak learning rate"""
    backbone_lr_scale: Advanced[NotNegative | None] = None
    """Multiplier of the learning rate for everything except embeddings and output rows; 0 freezes
    it. Default: 0 after a spectral warm start with atomic identifiers, 1 with atomic identifiers
    and --model.encoder, 0.05 otherwise"""
    layer_decay: Advanced[PositiveShare] = 1.0
    """Layer-wise learning-rate decay, from the top of the encoder and of the decoder down"""
    freeze_encoder: Advanced[bool | None] = None
    """Freeze the encoder and the text embedding. Default: true with --model.encoder and no LoRA,
    false otherwise"""
    decoder: Advanced[Literal["all", "cross-attention"] | None] = None
    """Decoder layers to train. Default: cross-attention for atomic identifiers with
    --model.encoder, all otherwise"""
    schedule: Advanced[Literal["linear", "cosine", "constant", "inverse-sqrt"]] = "linear"
    """Learning-rate schedule after the warm-up"""
    warmup: Whole = 20
    """Warm-up steps"""
    weight_decay: Advanced[NotNegative] = 0.0
    """Decoupled weight decay"""
    beta2: Advanced[Rate] = 0.99
    """AdamW's beta2"""
    clip: Advanced[NotNegative] = 1.0
    """Maximum gradient norm; 0 disables clipping"""
    rows: Advanced[Literal["all", "touched", "frozen"] | None] = None
    """Embedding rows that AdamW updates. touched: only rows in the batch; frozen: no identifier
    rows, so that documents with and without labeled queries stay comparable. Default: frozen for
    atomic identifiers with --model.encoder, all otherwise"""

    def conflicts(self) -> None:
        """Refuses touched rows without AdamW."""
        if self.rows == "touched" and self.name != "adamw":
            raise InputError(
                f"--optimizer.rows touched requires AdamW, but --optimizer.name is {self.name}",
                hint="Use --optimizer.name adamw, or --optimizer.rows all",
            )


@dataclass(frozen=True)
class LoraOptions(Options, group="lora", switch="rank"):
    """Low-rank adapters (LoRA) instead of training the backbone."""

    rank: Annotated[int, Range(ge=0, le=LARGEST_RANK)] = 0
    """Rank of the adapters; 0 disables LoRA. Adapters are merged into the weights at the end"""
    alpha: Advanced[Count | None] = None
    """LoRA alpha; default: twice the rank"""
    dropout: Advanced[Rate] = 0.0
    """Dropout rate of the adapters' input"""
    targets: Advanced[list[str]] = field(default_factory=list)
    """Linear layers to adapt, such as q,v; default: all except the output layer"""


@dataclass(frozen=True)
class LoopOptions(Options, group="loop"):
    """Options of the loop: steps, batch size, precision, evaluations, checkpoints."""

    steps: Whole | None = None
    """Optimizer steps of the network. Default: 0 where the network ranks without training (small
    model from scratch, --model.encoder), as long as no option of generator, mix, rehearsal,
    objectives, optimizer, lora or sam is set; 160 otherwise"""
    batch: Annotated[Count | None, Excludes("tokens", "both set the size of a batch")] = None
    """Examples per step, over all processes and accumulation steps; default: 512"""
    tokens: Advanced[Count | None] = None
    """Maximum tokens per step, padding included; replaces --loop.batch"""
    accumulation: Advanced[Count] = 1
    """Gradient accumulation: parts that a batch is split into"""
    length_buckets: Advanced[Count] = 4
    """Maximum number of length buckets per part of a batch; less padding, the same gradient"""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Numeric precision; auto is bf16 where the hardware supports it"""
    label_smoothing: Advanced[Rate] = 0.0
    """Label smoothing over the identifier alphabet"""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time"""
    check_memory: Advanced[bool] = True
    """Refuse to start if the first step is estimated not to fit in memory"""
    evaluate_every: Advanced[Whole] = 0
    """Steps between evaluations on the dev split; 0: four in total. The best weights are kept"""
    evaluate_queries: Advanced[Count] = 500
    """Maximum number of dev queries per evaluation"""
    evaluate_documents: Advanced[Whole] = 0
    """Documents whose text each evaluation uses as a query, to count memorized and forgotten
    ones"""
    track: Advanced[str | None] = None
    """Trackers to report to in addition to TensorBoard: wandb:PROJECT, trackio:PROJECT, or both
    separated by a comma"""
    checkpoint_every: Advanced[Whole] = 0
    """Steps between checkpoints; 0: eight in total"""
    beams: Count = 20
    """Beam width, in evaluation and as the default of the index"""
    score: Advanced[Literal["auto", "model", "constrained"]] = "auto"
    """Codes in the softmax. model: the whole alphabet, as published; constrained: the allowed
    continuations of the prefix. auto is constrained if the network starts from document vectors,
    model otherwise"""

    def conflicts(self) -> None:
        """Refuses a batch of fewer examples than `accumulation` parts."""
        if self.size is not None and self.accumulation > self.size:
            raise InputError(
                f"--loop.accumulation {self.accumulation} is larger than --loop.batch {self.size}",
                hint="Use no more parts than there are examples",
            )

    @property
    def size(self) -> int | None:
        """Examples per step; None if --loop.tokens is set."""
        return None if self.tokens is not None else (self.batch or DEFAULT_BATCH)

    @property
    def total(self) -> int:
        """Optimizer steps, once resolved (`dsi.indexing.start.resolve_start`)."""
        assert self.steps is not None
        return self.steps

    def of_size(self, batch: int | None, **changes: Any) -> LoopOptions:
        """Returns a copy with the given changes, and this many examples per step unless None."""
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
class SamOptions(Options, group="sam", switch="rho"):
    """Sharpness-aware minimization: flat minima, in which less is forgotten."""

    rho: NotNegative = 0.0
    """Radius of the perturbation; 0 disables SAM. Usual: 0.05, or 0.15 with --sam.adaptive"""
    adaptive: Advanced[bool] = False
    """Scale the perturbation by the size of each weight (ASAM)"""
    every: Advanced[Count] = 1
    """Apply SAM every N steps"""
    fraction: Advanced[PositiveShare] = 1.0
    """Fraction of the batch used for the perturbation; smaller is faster"""
    weights: Advanced[Literal["all", "rows", "backbone", "encoder", "decoder", "norms"]] = "all"
    """Weights to perturb. rows: embeddings and output rows; backbone: everything else"""
    perturbation: Advanced[Literal["global", "process"]] = "global"
    """One perturbation for all processes, or one per process (m-sharpness)"""

    def applies_at(self, step: int) -> bool:
        """Whether SAM perturbs in step `step` (from 0)."""
        return self.rho > 0 and step % self.every == 0
