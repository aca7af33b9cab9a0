"""The model: a transformers encoder-decoder whose decoder generates docid codes instead of text.

The encoder keeps its text embedding. The decoder's embedding and the output layer get one row
per code of the docid alphabet, so that a step's logits cost `alphabet x width` and the loss is
over identifiers only. The result is a plain transformers model: `generate` works on it.

A decoder-only language model takes the place of both (`dsi.backbones.language_model`).
"""

from __future__ import annotations

import copy
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import InputError
from data_prep.files import read_json
from data_prep.former_names import with_current_names
from data_prep.remote_code import (
    check_loaded,
    checked_config,
    reason_of,
    refuse_foreign_code,
)
from docids.table import END, PAD
from dsi.backbones.network_config import ENCODER, decoder_config, encoder_config, known_config
from dsi.index_folder.version_files import COPY

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from transformers import PreTrainedModel

    from dsi.backbones.pooled_encoder import PooledEncoder
    from dsi.text_encoders.text_encoder import TextEncoder

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_MOST_HEADER = 16 << 20
_MOST_NUMBER = 2**31
_MOST_WINDOW = 2**16
NO_PADDING = -1
"""Padding id of a decoder whose input contains no padding code."""
TEXT_ROWS = "dsi_text_vocabulary"
"""Key in config.json: rows of the encoder's embedding (`vocab_size` is the docid alphabet)."""
_FEED_FORWARD = 128


@dataclass(frozen=True)
class Size:
    """The shape of a T5 from scratch.

    Attributes:
        width: Width of the hidden states.
        encoder_layers: Layers of the encoder; 0 makes it a bag of weighted token vectors.
        decoder_layers: Layers of the decoder.
        heads: Attention heads, each 64 wide.
        feed_forward: Inner width of the feed-forward layers.
    """

    width: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    feed_forward: int


SIZES = {
    "latent": Size(256, 0, 1, 4, 128),
    "tiny": Size(256, 2, 2, 4, 1024),
    "mini": Size(384, 4, 4, 6, 1536),
    "small": Size(512, 6, 6, 8, 2048),
    "small-shallow": Size(512, 12, 1, 8, 2048),
    "base": Size(768, 12, 12, 12, 3072),
    "large": Size(1024, 24, 24, 16, 4096),
}
"""Named shapes: small, base and large are T5's own (Raffel et al. 2020, section 3.7); latent is
the shallow one for models from scratch on one machine, which starts as latent semantic analysis.
small-shallow has about the weights of small with one decoder layer under a deep encoder (Kasai et
al., ICLR 2021): a query is encoded once, and the decoder runs for every beam and code."""
FORMER_SIZES = {"lexical": "latent", "lexical-context": "latent"}
"""Sizes that only indexes of earlier versions have, and the current sizes that replace them."""


def from_scratch(
    size: str,
    *,
    text_vocabulary: int,
    alphabet_size: int,
    dropout: float = 0.1,
    seed: int = 0,
) -> PreTrainedModel:
    """Builds a T5 with random weights.

    Args:
        size: A name in `SIZES`.
        text_vocabulary: Number of tokens of the text encoder.
        alphabet_size: Size of the docid alphabet.
        dropout: Dropout rate of hidden states in training.
        seed: Seed of the random weights.

    Raises:
        InputError: There is no size with that name.
    """
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    if size not in SIZES:
        raise InputError(f"unknown model size {size!r}", hint=f"Choose from: {', '.join(SIZES)}")
    shape = SIZES[size]
    settings: dict[str, Any] = {
        "vocab_size": alphabet_size,
        "d_model": shape.width,
        "d_kv": 64,
        "d_ff": shape.feed_forward,
        "num_layers": shape.encoder_layers,
        "num_decoder_layers": shape.decoder_layers,
        "num_heads": shape.heads,
        "dropout_rate": dropout,
        "feed_forward_proj": "relu",
        "tie_word_embeddings": False,
    }
    config = T5Config(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = T5ForConditionalGeneration(config)
        return set_docid_alphabet(model, text_vocabulary, alphabet_size)


def from_pretrained(
    name: str,
    *,
    alphabet_size: int,
    decoder_layers: int | None = None,
    seed: int = 0,
    code_tokens: npt.NDArray[np.int64] | None = None,
) -> PreTrainedModel:
    """Loads a transformers encoder-decoder or language model, and gives it the docid alphabet.

    Args:
        name: A hub id, or the path of a folder or a GGUF file.
        alphabet_size: Size of the docid alphabet.
        decoder_layers: How many decoder layers to keep, from the first (NCI); None for all.
        seed: Seed of the new rows' random weights.
        code_tokens: For a language model: the token whose embedding and output row each code takes
            (PAD its embedding only); int64 [alphabet_size], -1 for a new row. None for new rows
            only.

    Raises:
        InputError: It cannot be loaded, or its type cannot generate docids.
    """
    import torch

    from dsi.backbones.language_model import TIED, PromptedLanguageModel, copy_token_rows

    config = loadable_config(name, decoder_layers)
    model = _loaded(name, config)
    check_loaded(model, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if not config.is_encoder_decoder:
            words, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
            prompted = PromptedLanguageModel(model.config, model.base_model, alphabet_size)
            if code_tokens is not None:
                copy_token_rows(prompted, head, code_tokens)
                setattr(prompted.config, TIED, words is head)
            return prompted
        text_rows = _rows_of_encoder(model, name)
        begins = _start_row(model)
        other: Any = set_docid_alphabet(model, text_rows, alphabet_size)
        if begins is not None:
            with torch.no_grad():
                other.get_decoder().get_input_embeddings().weight[PAD] = begins
        return other


def _rows_of_encoder(model: Any, name: str) -> int:
    """Returns the number of token embeddings of an encoder-decoder's encoder.

    Raises:
        InputError: transformers gives no access to those of its encoder or its decoder (FSMT).
    """
    try:
        parts = [part.get_input_embeddings() for part in (model.get_encoder(), model.get_decoder())]
        return int(parts[0].weight.shape[0])
    except (AttributeError, NotImplementedError):
        raise InputError(
            f"{name!r} is a {model.config.model_type}, whose token embeddings cannot be replaced",
            hint="Choose a T5, mT5, Flan-T5, T5Gemma, BART or mBART",
        ) from None


def _start_row(model: Any) -> torch.Tensor | None:
    """Returns the embedding of the token that a decoder starts from; None where none is named.

    PAD takes it: the first decoder state then depends on the text as it does in the checkpoint.
    """
    parts = (model.generation_config, model.config, decoder_config(model.config))
    for part in parts:
        token = getattr(part, "decoder_start_token_id", None)
        if token is not None:
            rows = model.get_decoder().get_input_embeddings().weight
            return rows[token].detach().clone() if 0 <= token < len(rows) else None
    return None


def _loaded(name: str, config: Any) -> Any:
    """Loads the weights of a checkpoint in float32; see `loadable_config`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    from dsi.hub.checkpoint_location import checkpoint_location

    place, more = checkpoint_location(name)
    kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    try:
        return kind.from_pretrained(
            place,
            config=config,
            trust_remote_code=False,
            use_safetensors=None,
            dtype=torch.float32,
            **more,
        )
    except InputError:
        raise
    except _unreadable() as error:
        raise _cannot_load(name, error) from None


def _unreadable() -> tuple[type[Exception], ...]:
    """Returns the exceptions that transformers and its file readers raise for bad files."""
    from safetensors import SafetensorError

    return (
        OSError, ValueError, LookupError, ImportError, TypeError, RuntimeError, struct.error,
        SafetensorError,
    )  # fmt: skip


def _cannot_load(name: str, error: Exception) -> InputError:
    return InputError(
        f"cannot load the model {name!r} ({reason_of(error)})",
        hint="Give a hub id that this machine can reach, the path of a folder, or a GGUF file of a "
        "language model",
    )


def empty_network(config: Any, alphabet_size: int) -> PreTrainedModel:
    """Builds the network that `from_pretrained` would, with uninitialized weights.

    Args:
        config: Configuration of the checkpoint.
        alphabet_size: Size of the docid alphabet.
    """
    from transformers import AutoModelForSeq2SeqLM

    from dsi.backbones.language_model import empty_language_model

    if not config.is_encoder_decoder:
        return empty_language_model(config, config.vocab_size, alphabet_size)
    model = AutoModelForSeq2SeqLM.from_config(config)
    rows = model.get_encoder().get_input_embeddings().weight.shape[0]
    return set_docid_alphabet(model, rows, alphabet_size)


def from_encoder(
    encoder: PooledEncoder, *, alphabet_size: int, weight: float, seed: int = 0
) -> PreTrainedModel:
    """Adds a one-layer decoder to a pretrained text encoder.

    The decoder is that of a T5, as wide as the encoder's vectors. It is initialized at random, then
    by the warm start `encoder`.

    Args:
        encoder: The encoder.
        alphabet_size: Size of the docid alphabet.
        weight: Logit of a document whose vector has the direction of the query's.
        seed: Seed of the decoder's random weights.
    """
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from dsi.backbones.pooled_encoder import attach

    width = encoder.width
    per_head = next(size for size in range(min(64, width), 0, -1) if width % size == 0)
    settings: dict[str, Any] = {
        "vocab_size": alphabet_size,
        "d_model": width,
        "d_kv": per_head,
        "d_ff": _FEED_FORWARD,
        "num_layers": 0,
        "num_decoder_layers": 1,
        "num_heads": width // per_head,
        "dropout_rate": 0.0,
        "feed_forward_proj": "relu",
        "tie_word_embeddings": False,
        # The last norm scales a unit vector; the epsilon that T5 adds there would be noticeable.
        "layer_norm_epsilon": 1e-6 / width,
    }
    config = T5Config(**settings)
    rows = encoder.get_input_embeddings().weight.shape[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = attach(T5ForConditionalGeneration(config), encoder)
        model = set_docid_alphabet(model, rows, alphabet_size)
    network: Any = model
    torch.nn.init.constant_(network.decoder.final_layer_norm.weight, weight * width**-0.5)
    return model


def loadable_config(name: str, decoder_layers: int | None = None) -> Any:
    """Returns the result of `pretrained_config`.

    Raises:
        InputError: Its type cannot generate docids, it has fewer layers, or it cannot be loaded.
    """
    try:
        return pretrained_config(name, decoder_layers)
    except InputError:
        raise
    except _unreadable() as error:
        raise _cannot_load(name, error) from None


def pretrained_config(name: str, decoder_layers: int | None = None) -> Any:
    """Returns the configuration of a transformers encoder-decoder or language model.

    Args:
        name: A hub id, or the path of a folder or a GGUF file.
        decoder_layers: How many decoder layers to keep; None for all.

    Raises:
        InputError: Its type cannot generate docids, or it has fewer layers.
        OSError: It cannot be reached.
        ValueError: transformers does not know it.
    """
    from dsi.backbones.language_model import KINDS
    from dsi.hub.checkpoint_location import checkpoint_location

    place, more = checkpoint_location(name)
    config = checked_config(place, **more)
    if not config.is_encoder_decoder and config.model_type not in KINDS:
        raise InputError(
            f"{name!r} is a {config.model_type}, which is neither an encoder-decoder nor a "
            "supported language model",
            hint="Choose a T5, mT5, Flan-T5, T5Gemma, BART or mBART, or a language model: "
            + ", ".join(KINDS),
        )
    if decoder_layers is not None:
        _cut_decoder(config, decoder_layers, name)
    return config


def _cut_decoder(config: Any, layers: int, name: str) -> None:
    """Reduces the number of decoder layers in a configuration.

    Raises:
        InputError: It has fewer layers than that.
    """
    inner = decoder_config(config)
    depth_keys = ("num_decoder_layers", "decoder_layers", "num_hidden_layers")
    key = next(name for name in depth_keys if getattr(inner, name, None) is not None)
    has = getattr(inner, key)
    if layers > has:
        raise InputError(
            f"--model.decoder_layers {layers} is more than the {has} of {name!r}",
            hint=f"Give at most {has}",
        )
    setattr(inner, key, layers)
    if getattr(inner, "layer_types", None):
        inner.layer_types = inner.layer_types[:layers]


def set_docid_alphabet(
    model: PreTrainedModel, text_vocabulary: int, alphabet_size: int, *, draw: bool = True
) -> PreTrainedModel:
    """Gives the decoder and the output layer the docid alphabet, in place.

    The encoder's embedding keeps its weights if it already has `text_vocabulary` rows, and is
    initialized at random otherwise; so are decoder embedding and output layer.

    Args:
        model: The network.
        text_vocabulary: Number of rows of the encoder's embedding.
        alphabet_size: Size of the docid alphabet.
        draw: False leaves new weights uninitialized, for a caller that writes all of them.
    """
    import torch
    from torch import nn

    config = model.config
    std = float(getattr(config, "init_std", None) or 0.02)
    make = torch.randn if draw else torch.empty
    # Done first, because some networks tie an output layer when it is set (T5Gemma).
    for part in (config, decoder_config(config)):
        part.tie_word_embeddings = False
    encoder, decoder = model.get_encoder(), model.get_decoder()
    _leave_images_out(encoder, config)
    text = copy.deepcopy(encoder.get_input_embeddings())
    width = text.weight.shape[1]
    if text.weight.shape[0] != text_vocabulary:
        text.weight = nn.Parameter(make(text_vocabulary, width))
        text.num_embeddings = text_vocabulary
        text.padding_idx = None
    codes = copy.deepcopy(decoder.get_input_embeddings())
    codes.weight = nn.Parameter(make(alphabet_size, codes.weight.shape[1]) * std)
    codes.num_embeddings = alphabet_size
    codes.padding_idx = None
    if hasattr(codes, "eoi_token_index"):
        codes.eoi_token_index = -1  # no code is an end-of-image token
    encoder.set_input_embeddings(text)
    decoder.set_input_embeddings(codes)
    inner = getattr(model, model.base_model_prefix, model)
    # The shared embedding of encoder and decoder has its own name, which depends on the
    # configuration.
    for name, child in list(inner.named_children()):
        if isinstance(child, nn.Embedding):
            setattr(inner, name, codes)
    before: Any = model.get_output_embeddings()
    read = width if before is None else before.weight.shape[1]
    head = nn.Linear(read, alphabet_size, bias=False)
    nn.init.normal_(head.weight, std=read**-0.5)
    model.set_output_embeddings(head)
    for module in decoder.modules():
        if any(child is head for child in module.children()) and hasattr(module, "bias"):
            module.bias = None  # BERT's head keeps an extra one, for the old vocabulary
    if hasattr(model, "final_logits_bias"):
        model.register_buffer("final_logits_bias", torch.zeros(1, alphabet_size))
    inner, outer = decoder_config(config), encoder_config(config)
    if inner is not config:
        inner.vocab_size = alphabet_size
        # Without a cache, T5Gemma masks tokens that it takes for padding: PAD, which starts an
        # identifier, would be masked in training but visible in search. No code is NO_PADDING.
        inner.pad_token_id = NO_PADDING
        # T5Gemma 2 does not support two vocabulary sizes; the number of tokens gets a key of its
        # own.
        one_size = hasattr(config.encoder, "text_config")
        outer.vocab_size = alphabet_size if one_size else text_vocabulary
    config.vocab_size = alphabet_size
    if hasattr(config, "scale_decoder_outputs"):
        config.scale_decoder_outputs = False
    setattr(config, TEXT_ROWS, text_vocabulary)
    for settings in (config, model.generation_config):
        settings.pad_token_id = settings.decoder_start_token_id = PAD
        settings.eos_token_id = END
        settings.bos_token_id = settings.forced_bos_token_id = settings.forced_eos_token_id = None
    return model


def _leave_images_out(encoder: Any, config: Any) -> None:
    """Removes the image part of an encoder of texts and images (T5Gemma 2), in place."""
    if not hasattr(encoder, "vision_tower"):
        return
    del encoder.vision_tower, encoder.multi_modal_projector
    # The architecture cannot be built without one, so it gets the smallest possible.
    seen = config.encoder.vision_config
    for name in ("hidden_size", "intermediate_size", "image_size", "patch_size"):
        setattr(seen, name, 8)
    seen.num_hidden_layers = seen.num_attention_heads = 1
    config.encoder.mm_tokens_per_image = 1


def set_text_rows(model: PreTrainedModel, rows: int) -> None:
    """Records the number of rows of the encoder's embedding in the configuration."""
    setattr(model.config, TEXT_ROWS, rows)


def longest_text(model: PreTrainedModel) -> int | None:
    """Returns the maximum number of positions of the encoder; None if there is no limit (T5)."""
    settings = getattr(model.config, ENCODER, None)
    if settings is not None:
        return int(settings["longest"])
    return getattr(encoder_config(model.config), "max_position_embeddings", None)


def text_rows(model: PreTrainedModel) -> int:
    """Returns the number of tokens with a row in the encoder's embedding."""
    return int(model.get_encoder().get_input_embeddings().weight.shape[0])


def refuse_small_vocabulary(model: PreTrainedModel, text: TextEncoder, name: str) -> None:
    """Raises InputError if a checkpoint has fewer rows than its tokenizer has tokens."""
    rows = text_rows(model)
    if rows < text.vocabulary_size:
        raise InputError(
            f"the tokenizer of {name!r} has {text.vocabulary_size} tokens, but the model has "
            f"rows for {rows}",
            hint="Use the tokenizer that belongs to this checkpoint",
        )


def decoder_without_head(model: PreTrainedModel) -> Any:
    """Returns the decoder without its own output layer, which one built from BERT has."""
    return model.get_decoder().base_model


def row_weights(model: PreTrainedModel) -> list[torch.Tensor]:
    """Returns the weights with a row for each token or code; tied ones occur repeatedly."""
    return [
        model.get_encoder().get_input_embeddings().weight,
        model.get_decoder().get_input_embeddings().weight,
        model.get_output_embeddings().weight,
    ]


def drops(model: PreTrainedModel) -> bool:
    """Returns whether the model uses dropout in training."""
    names = (
        "dropout_rate", "dropout", "attention_dropout", "activation_dropout",
        "hidden_dropout_prob", "attention_probs_dropout_prob",
    )  # fmt: skip
    parts = (model.config, encoder_config(model.config), decoder_config(model.config))
    return any((getattr(part, name, None) or 0) > 0 for part in parts for name in names)


def save_backbone(model: PreTrainedModel, folder: str | os.PathLike[str]) -> None:
    """Writes config.json and model.safetensors to a folder, creating it."""
    from safetensors.torch import save_model

    from dsi.backbones.pawa import plain_class

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name = getattr(model, "architecture", None) or plain_class(model)
    config = {**model.config.to_dict(), "architectures": [name], TEXT_ROWS: text_rows(model)}
    config.pop("_name_or_path", None)  # a path on the machine it was trained on
    config.pop("quantization_config", None)  # of a GGUF file, whose weights were dequantized
    text = json.dumps(config, indent=2, default=str, sort_keys=True)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    save_model(model, str(folder / WEIGHTS))


def load_backbone(
    folder: str | os.PathLike[str], device: str | torch.device = "cpu"
) -> PreTrainedModel:
    """Reads what `save_backbone` wrote, in evaluation mode.

    The network is allocated only after its shapes are known to match those of the weights.

    Raises:
        InputError: A file is missing or damaged, the weights do not match the configuration or are
            not finite, or the architecture is not a transformers encoder-decoder.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_model
    from transformers.initialization import no_init_weights

    folder = Path(folder)
    stored = read_config(folder)
    shapes = check_weights(folder / WEIGHTS)
    check_sizes(stored, len(shapes), folder / CONFIG)
    unusable: tuple[type[Exception], ...] = (*_unusable(), SafetensorError)
    try:
        with torch.device("meta"):
            compare(network(stored, folder), shapes, folder / WEIGHTS)
        # Weights that are read right afterwards need no initialization, which is slower than
        # reading.
        with torch.random.fork_rng(devices=[]), no_init_weights():
            model = network(stored, folder)
        load_model(model, folder / WEIGHTS, strict=True)
        for part in (model.get_encoder(), model.get_decoder()):
            # Every row is trained, as before it was written. Embeddings of positions keep theirs:
            # some networks count from it (ProphetNet).
            part.get_input_embeddings().padding_idx = None
        check_finite(model, folder / WEIGHTS)
    except InputError:
        raise
    except torch.OutOfMemoryError:
        raise
    except unusable as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"cannot build a model from it ({reason:.300})", where=folder / CONFIG, hint=COPY
        ) from error
    placed: Any = model
    return placed.to(device).eval()


_UNUSABLE = (
    OSError, LookupError, ValueError, TypeError, RuntimeError, AttributeError, ArithmeticError,
    AssertionError, ImportError,
)  # fmt: skip
"""Exceptions that transformers raises for invalid configurations."""


def _unusable() -> tuple[type[Exception], ...]:
    """Returns `_UNUSABLE` and the exceptions for values of the wrong type, if any."""
    from huggingface_hub import errors

    strict = getattr(errors, "StrictDataclassError", None)
    return _UNUSABLE if strict is None else (*_UNUSABLE, strict)


def network(stored: Mapping[str, Any], folder: Path) -> PreTrainedModel:
    """Builds the network of a checked configuration."""
    from dsi.backbones.language_model import KINDS, TIED, empty_language_model
    from dsi.backbones.pawa import LAYERS, add_pawa

    config = known_config(stored)
    if stored["model_type"] in KINDS:
        if stored.get(TIED) is True:
            setattr(config, TIED, True)
        prompted = empty_language_model(config, stored[TEXT_ROWS], stored["vocab_size"])
        return _with_strategy_parts(prompted, stored)
    model = _architecture(stored, folder)(config)
    if ENCODER in stored:
        from dsi.backbones.pooled_encoder import PooledEncoder, attach

        model = attach(model, PooledEncoder(stored[ENCODER]))
        if text_rows(model) != stored[TEXT_ROWS]:
            raise InputError(
                f"{ENCODER} has {text_rows(model)} rows for tokens, not {stored[TEXT_ROWS]}",
                where=folder / CONFIG,
                hint=COPY,
            )
    model = set_docid_alphabet(model, stored[TEXT_ROWS], stored["vocab_size"], draw=False)
    model = add_pawa(model, stored[LAYERS]) if LAYERS in stored else model
    return _with_strategy_parts(model, stored)


def _with_strategy_parts(model: PreTrainedModel, stored: Mapping[str, Any]) -> PreTrainedModel:
    """Gives a network room for what update strategies have stored with its weights."""
    from dsi.backbones.output_states import with_stored_map
    from dsi.backbones.position_edits import EDITS, add_edits

    if EDITS in stored:
        add_edits(model, stored[EDITS])
    return with_stored_map(model, stored)


def read_config(folder: Path) -> dict[str, Any]:
    """Reads the config.json of a backbone and checks what it names.

    Raises:
        InputError: It is missing or damaged, or names something that is not part of transformers.
    """
    file = folder / CONFIG
    stored = read_json(file)
    if not isinstance(stored, dict):
        raise InputError("not the configuration of a model", where=file, hint=COPY)
    stored = with_current_names(stored)
    refuse_foreign_code(stored, file)
    for key in ("auto_map", "quantization_config", "custom_pipelines"):
        if stored.get(key):
            raise InputError(f"{key!r} is not allowed in an index", where=file)
    architectures = stored.get("architectures")
    if not isinstance(architectures, list) or len(architectures) != 1:
        raise InputError("it does not name an architecture", where=file, hint=COPY)
    _architecture(stored, folder)
    from dsi.backbones.output_states import STATE_MAP, check_map
    from dsi.backbones.pawa import LAYERS
    from dsi.backbones.position_edits import EDITS

    if STATE_MAP in stored:
        check_map(stored[STATE_MAP], file)
    for key, least in ((TEXT_ROWS, 1), ("vocab_size", 1), (LAYERS, 1), (EDITS, 1)):
        value = stored.get(key, least if key in (LAYERS, EDITS) else None)
        if type(value) is not int or value < least:
            raise InputError(f"{key} is {value!r:.60}", where=file, hint=COPY)
    if ENCODER in stored:
        from dsi.backbones.pooled_encoder import check_settings

        check_settings(stored[ENCODER], file)
        if architectures[0] != "T5ForConditionalGeneration":
            raise InputError(
                f"{ENCODER} is supported only in T5ForConditionalGeneration, not in "
                f"{architectures[0]}",
                where=file,
                hint=COPY,
            )
    return stored


def check_sizes(config: Mapping[str, Any], tensors: int, where: Path) -> None:
    """Refuses numbers that would cost time or memory before any shape could be compared."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            check_sizes(value, tensors, where)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, bool) or not isinstance(one, (int, float)):
                continue
            most = float(_MOST_NUMBER)
            if key == "max_window_layers":  # where windows begin: always 28 (Qwen)
                most = _MOST_WINDOW
            elif "layers" in key or "experts" in key or key == "n_layer":
                most = max(tensors, 8)
            elif "window" in key or "block" in key or key in ("ngram", "num_buckets"):
                most = _MOST_WINDOW
            if not abs(one) <= most:  # a missing number is fine
                raise InputError(f"{key} is {one}; at most {most:g} is allowed", where=where)


def check_weights(file: Path) -> dict[str, list[int]]:
    """Checks that a safetensors file is complete, without reading the weights.

    Returns:
        The shape of each tensor by name.

    Raises:
        InputError: There is none, or its header does not match its length.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with open(file, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
        if length > _MOST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        opened_file: Any = safe_open(file, framework="np")
        with opened_file as tensors:
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError("no such file", where=file, hint=COPY) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"damaged or truncated ({error})", where=file, hint=COPY) from None


def compare(model: PreTrainedModel, shapes: Mapping[str, list[int]], file: Path) -> None:
    """Compares the shapes of an unallocated network with those of stored weights."""
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    stored_parameters: set[int] = set()
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, shape in shapes.items():
        if expected.get(name) != shape:
            required = expected.get(name, "none")
            raise InputError(
                f"{name!r:.100} has shape {shape}, but the configuration requires {required}",
                where=file,
                hint=COPY,
            )
        if name in parameters:
            stored_parameters.add(id(parameters[name]))
    for name, parameter in parameters.items():
        if id(parameter) not in stored_parameters:
            raise InputError(f"{name!r} is missing", where=file, hint=COPY)


def check_finite(model: PreTrainedModel, file: Path) -> None:
    """Refuses weights that are not finite: a search would find nothing."""
    import torch

    parts = (".edit", ".projection", ".phase", ".first", ".second", ".spread", ".values")
    stored = [(name, each) for name, each in model.named_buffers() if name.endswith(parts)]
    for name, tensor in (*model.named_parameters(), *stored):
        if tensor.numel() and not bool(torch.stack(tensor.detach().aminmax()).isfinite().all()):
            raise InputError(f"the weights {name!r} are not finite", where=file, hint=COPY)


def _architecture(stored: Mapping[str, Any], folder: Path) -> Any:
    """Returns the model class that a configuration names, among those an index can use."""
    import transformers
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )

    from dsi.backbones.language_model import KINDS

    name, kind = stored["architectures"][0], stored.get("model_type")
    supported = set(MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.values())
    if kind in KINDS:
        supported = {MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind]}
    if name not in supported:
        raise InputError(
            f"{name!r:.80} is neither an encoder-decoder nor a supported language model",
            where=folder / CONFIG,
        )
    return getattr(transformers, name)
