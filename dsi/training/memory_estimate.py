"""Estimates the memory of a training step before the first one runs.

Bytes in one process beyond the network itself, for T trained weights, a batch of b examples of at
most l tokens, identifiers of n codes from an alphabet of a, a network of width d, inner width f and
h heads:

    gradients      4 T
    optimizer      8 T  (AdamW; Adafactor stores row and column statistics only)
    SAM            4 T  (the perturbed weights; the old ones are kept)
    hidden states  4 b (layers_enc (l (14 d + 3 f + 3 h l))
                        + layers_dec (n (22 d + 3 f + 3 h (n + l)) + 2 l d))
    logits         12 b n a

A prefix-aware output layer (`dsi.backbones.pawa`) adds as many hidden states per layer and code,
and 8 b n d min(a, d) for the adapted weights.
With gradient checkpointing the hidden states are 4 b d (l layers_enc + n layers_dec) plus those of
one layer. DeepSpeed keeps a second copy of the weights, in float32, for the optimizer: 4 T more.
Over p processes ZeRO 1 divides the optimizer states and that copy by p; ZeRO 2 also divides the
gradients.

The activations kept for the backward pass were counted in T5; other encoder-decoders keep about as
much.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from data_prep.errors import InputError
from dsi.backbones.network_config import ENCODER, decoder_config, encoder_config

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_GIB = 2**30
_OPTIMIZER_BYTES = {"adamw": 8, "adafactor": 0}


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that one process needs beyond the network.

    Attributes:
        states: Gradients, optimizer and SAM; independent of the batch.
        batch: Hidden states and logits of one part of a step.
    """

    states: int
    batch: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.states + self.batch


@dataclass(frozen=True)
class Shape:
    """The dimensions of a network that determine the memory of a batch.

    Attributes:
        width: Hidden size.
        inner: Inner size of the feed-forward layers.
        heads: Number of attention heads.
        encoder_layers: Layers of the encoder.
        decoder_layers: Layers of the decoder.
        alphabet: Codes of the output layer.
        adaptor_layers: Layers of the prefix adaptor (`dsi.backbones.pawa`); 0 without one.
    """

    width: int
    inner: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    alphabet: int
    adaptor_layers: int = 0

    @classmethod
    def of(cls, config: PretrainedConfig, *, encoder_moves: bool = True) -> Shape:
        """Reads the configuration of any transformers encoder-decoder or language model.

        Args:
            config: The configuration.
            encoder_moves: Whether a pretrained text encoder is trained; a frozen one keeps
                no activations for the backward pass.
        """
        # Composite models, such as two BERTs, have one configuration per part.
        encoder, decoder = encoder_config(config), decoder_config(config)
        pretrained = (getattr(config, ENCODER, None) or {}).get("config")
        if pretrained is not None:
            encoder = SimpleNamespace(**pretrained)
            if not encoder_moves:
                encoder.num_hidden_layers = encoder.n_layers = 0

        # The layers of a language model process both texts and codes; texts dominate.
        if not config.is_encoder_decoder:
            decoder = SimpleNamespace()

        def first(config: Any, *names: str) -> int:
            values = (getattr(config, name, None) for name in names)
            return next((int(value) for value in values if value is not None), 0)

        width = first(encoder, "d_model", "hidden_size", "dim")
        inner = first(
            encoder, "d_ff", "encoder_ffn_dim", "intermediate_size", "ffn_dim", "hidden_dim",
            "n_inner",
        )  # fmt: skip
        return cls(
            width,
            inner or 4 * width,  # GPT-2 leaves it out
            first(
                encoder, "num_heads", "encoder_attention_heads", "num_attention_heads", "n_heads"
            ),
            first(encoder, "encoder_layers", "num_layers", "num_hidden_layers", "n_layers"),
            first(
                decoder, "decoder_layers", "num_decoder_layers", "num_layers", "num_hidden_layers"
            ),
            first(config, "vocab_size"),
            getattr(config, "dsi_pawa_layers", 0),
        )


def hidden_bytes(shape: Shape, examples: int, tokens: int, codes: int) -> int:
    """Returns the bytes of hidden states that a backward pass needs, without checkpointing.

    Args:
        shape: Dimensions of the network.
        examples: Micro-batch size.
        tokens: Text tokens per example.
        codes: Identifier codes per example.
    """
    d, f, h = shape.width, shape.inner, shape.heads
    encoder = shape.encoder_layers * tokens * (14 * d + 3 * f + 3 * h * tokens)
    decoder = shape.decoder_layers * (
        codes * (22 * d + 3 * f + 3 * h * (codes + tokens)) + 2 * tokens * d
    )
    adaptor = 0
    if shape.adaptor_layers:
        adapted = 2 * d * min(shape.alphabet, d)
        adaptor = codes * (adapted + shape.adaptor_layers * (22 * d + 3 * f + 3 * h * codes))
    return 4 * examples * (encoder + decoder + adaptor)


def state_bytes(
    trained: int,
    *,
    optimizer: str = "adamw",
    sam: bool = False,
    zero_stage: int = 0,
    processes: int = 1,
) -> int:
    """Returns the bytes of gradients, optimizer and SAM in each process.

    Args:
        trained: Number of trainable parameters.
        optimizer: "adamw" or "adafactor".
        sam: Whether SAM keeps a copy of the unperturbed weights.
        zero_stage: ZeRO stage of DeepSpeed; 0 without DeepSpeed.
        processes: Number of processes that ZeRO shards over.
    """
    gradients, optimizer_bytes = 4 * trained, _OPTIMIZER_BYTES[optimizer] * trained
    if zero_stage:
        optimizer_bytes = (optimizer_bytes + 4 * trained) // processes
        gradients = gradients // (processes if zero_stage > 1 else 1)
    perturbed = 4 * trained // (processes if zero_stage else 1) if sam else 0
    return gradients + optimizer_bytes + perturbed


def estimate(
    shape: Shape,
    trained: int,
    *,
    examples: int,
    tokens: int,
    codes: int,
    optimizer: str = "adamw",
    sam: bool = False,
    checkpointing: bool = False,
    zero_stage: int = 0,
    processes: int = 1,
) -> MemoryNeed:
    """Returns the memory of a step in each process, by the formula in the module docstring.

    Args:
        shape: Dimensions of the network.
        trained: Number of trainable parameters.
        examples: Micro-batch size of one process.
        tokens: Tokens of the longest text.
        codes: Codes of the longest identifier.
        optimizer: adamw or adafactor.
        sam: Whether SAM is on.
        checkpointing: Whether gradient checkpointing is on.
        zero_stage: ZeRO stage of DeepSpeed; 0 without DeepSpeed.
        processes: Number of processes that ZeRO shards over.
    """
    hidden = hidden_bytes(shape, examples, tokens, codes)
    if checkpointing:
        layers = max(1, shape.encoder_layers + shape.decoder_layers)
        outputs = tokens * shape.encoder_layers + codes * shape.decoder_layers
        hidden = hidden // layers + 4 * examples * shape.width * outputs
    logits = 12 * examples * codes * shape.alphabet
    states = state_bytes(
        trained, optimizer=optimizer, sam=sam, zero_stage=zero_stage, processes=processes
    )
    return MemoryNeed(states, hidden + logits)


def available(device: torch.device) -> int:
    """Returns the free bytes of a GPU, or of this machine within its container's limit."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    free = int(psutil.virtual_memory().available)
    limit, used = (Path(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    try:
        return min(free, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):
        return free


def refuse_what_cannot_fit(
    need: MemoryNeed, free: int, *, accumulation: int, checkpointing: bool
) -> None:
    """Refuses a run whose first step would not fit in memory, and suggests options that would fit.

    Args:
        need: Memory needed by one process.
        free: Bytes available to it.
        accumulation: Current number of gradient accumulation parts.
        checkpointing: Whether gradient checkpointing is already on.

    Raises:
        InputError: The estimate exceeds the free memory.
    """
    if need.total <= free:
        return
    message = (
        f"a training step needs about {need.total / _GIB:.1f} GiB beside the network "
        f"({need.states / _GIB:.1f} for gradients and the optimizer, {need.batch / _GIB:.1f} for "
        f"the batch), and {free / _GIB:.1f} GiB are free"
    )
    rest = free - need.states
    if rest > 0:
        parts = accumulation
        while need.batch * accumulation > rest * parts:
            parts *= 2
        hint = f"Use --loop.accumulation {parts} (the same step in smaller parts)"
        if not checkpointing:
            hint += " or --loop.gradient_checkpointing true"
    else:
        hint = (
            "Use --optimizer.name adafactor, a smaller --model.size, or --deepspeed over several "
            "processes"
        )
    raise InputError(message, hint=f"{hint}; --loop.check_memory false tries anyway")


def neighbors(device: torch.device) -> int:
    """Returns how many processes of this run share the memory of `device`."""
    return 1 if device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
