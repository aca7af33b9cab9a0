"""The model: a transformers encoder-decoder whose decoder writes docid codes instead of text.

The encoder keeps its text embedding. The decoder's embedding and the output layer get one row
per code of the docid alphabet, so that a step's logits cost `alphabet x width` and the loss is
over identifiers only. The result is a plain transformers model: `generate` works on it.
"""

from __future__ import annotations

import copy
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import InputError
from docids.table import END, PAD

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_WEIGHTS = "model.safetensors"
_CONFIG = "config.json"
_TEXT_ROWS = "dsi_text_vocabulary"
"""Key in config.json: rows of the encoder's embedding (`vocab_size` is the docid alphabet)."""


@dataclass(frozen=True)
class Size:
    """The shape of a T5 from scratch.

    Attributes:
        width: Width of the hidden states; None: as wide as the corpus asks for (`lexical_width`).
        encoder_layers: Layers of the encoder; 0 leaves a bag of weighted token vectors.
        decoder_layers: Layers of the decoder.
        heads: Attention heads; None: one for every 64 of the width.
        feed_forward: Inner width of the feed-forward layers.
    """

    width: int | None
    encoder_layers: int
    decoder_layers: int
    heads: int | None
    feed_forward: int


SIZES = {
    "lexical": Size(None, 0, 1, None, 128),
    "lexical-context": Size(None, 1, 1, None, 128),
    "tiny": Size(256, 2, 2, 4, 1024),
    "mini": Size(384, 4, 4, 6, 1536),
    "small": Size(512, 6, 6, 8, 2048),
    "base": Size(768, 12, 12, 12, 3072),
    "large": Size(1024, 24, 24, 16, 4096),
}
"""Named shapes: small, base and large are T5's own (Raffel et al. 2020, section 3.7); lexical is
the shallow one for models from scratch on one machine, which starts as a ranker of words."""


def lexical_width(documents: int) -> int:
    """Returns the width for a `lexical` model: one dimension a document, within 256 to 3,072.

    The spectral warm start keeps as many directions of the term-document matrix as the model is
    wide; with one for each document it keeps the whole ranking.
    """
    return min(3072, max(256, -(-(documents + 2) // 128) * 128))


def from_scratch(
    size: str,
    *,
    text_vocabulary: int,
    alphabet_size: int,
    documents: int,
    dropout: float = 0.1,
    seed: int = 0,
) -> PreTrainedModel:
    """Builds a T5 with random weights.

    Args:
        size: A name in `SIZES`.
        text_vocabulary: Tokens of the text encoder.
        alphabet_size: Codes of the docid alphabet.
        documents: Documents of the corpus, for sizes that follow it.
        dropout: Share of hidden values dropped in training.
        seed: Of the random weights.

    Raises:
        InputError: There is no size of that name.
    """
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    if size not in SIZES:
        raise InputError(f"unknown model size {size!r}", mend=f"Choose from: {', '.join(SIZES)}")
    shape = SIZES[size]
    width = shape.width or lexical_width(documents)
    settings: dict[str, Any] = {
        "vocab_size": alphabet_size,
        "d_model": width,
        "d_kv": 64,
        "d_ff": shape.feed_forward,
        "num_layers": shape.encoder_layers,
        "num_decoder_layers": shape.decoder_layers,
        "num_heads": shape.heads or width // 64,
        "dropout_rate": dropout,
        "feed_forward_proj": "relu",
        "tie_word_embeddings": False,
    }
    config = T5Config(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = T5ForConditionalGeneration(config)
        return graft_docids(model, text_vocabulary, alphabet_size)


def from_pretrained(
    name: str, *, alphabet_size: int, decoder_layers: int | None = None, seed: int = 0
) -> PreTrainedModel:
    """Loads any encoder-decoder of transformers and gives its decoder the docid alphabet.

    Args:
        name: A hub id, or the path of a folder.
        alphabet_size: Codes of the docid alphabet.
        decoder_layers: How many layers of the decoder to keep, the first ones (NCI);
            None for all.
        seed: Of the new rows' random weights.

    Raises:
        InputError: It cannot be loaded, or is no encoder-decoder.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForSeq2SeqLM

    try:
        config = pretrained_config(name, decoder_layers)
        model = AutoModelForSeq2SeqLM.from_pretrained(
            name, config=config, trust_remote_code=False, use_safetensors=None, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        raise InputError(
            f"cannot load the model {name!r} ({str(error).splitlines()[0]})",
            mend="Give a hub id that this machine can reach, or the path of a folder",
        ) from None
    text_rows = model.get_encoder().get_input_embeddings().weight.shape[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return graft_docids(model, text_rows, alphabet_size)


def pretrained_config(name: str, decoder_layers: int | None = None) -> Any:
    """Returns the configuration of any encoder-decoder of transformers.

    Args:
        name: A hub id, or the path of a folder.
        decoder_layers: How many layers of the decoder to keep; None for all.

    Raises:
        InputError: It is no encoder-decoder, or has fewer layers.
        OSError: It cannot be reached.
        ValueError: It is unknown to transformers.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    if not config.is_encoder_decoder:
        raise InputError(
            f"{name!r} is a {config.model_type}, no encoder-decoder",
            mend="Choose a T5, mT5, Flan-T5, BART or mBART",
        )
    if decoder_layers is not None:
        _cut_decoder(config, decoder_layers, name)
    return config


def _cut_decoder(config: Any, layers: int, name: str) -> None:
    """Makes a configuration say that the decoder has fewer layers.

    Raises:
        InputError: It has fewer than that.
    """
    key = "num_decoder_layers" if hasattr(config, "num_decoder_layers") else "decoder_layers"
    has = getattr(config, key)
    if layers > has:
        raise InputError(
            f"--model.decoder_layers {layers} is more than the {has} of {name!r}",
            mend=f"Give {has} or less",
        )
    setattr(config, key, layers)


def graft_docids(
    model: PreTrainedModel, text_vocabulary: int, alphabet_size: int, *, draw: bool = True
) -> PreTrainedModel:
    """Gives the decoder and the output layer the docid alphabet, in place.

    The encoder's embedding keeps its weights where it has `text_vocabulary` rows already, and
    is drawn at random otherwise; decoder embedding and output layer are drawn at random.

    Args:
        model: The network.
        text_vocabulary: Rows of the encoder's embedding.
        alphabet_size: Codes of the docid alphabet.
        draw: False leaves new weights undefined, for a caller who writes all of them.
    """
    import torch
    from torch import nn

    config = model.config
    std = float(getattr(config, "init_std", None) or 0.02)
    make = torch.randn if draw else torch.empty
    encoder, decoder = model.get_encoder(), model.get_decoder()
    text = copy.deepcopy(encoder.get_input_embeddings())
    width = text.weight.shape[1]
    if text.weight.shape[0] != text_vocabulary:
        text.weight = nn.Parameter(make(text_vocabulary, width))
        text.num_embeddings = text_vocabulary
        text.padding_idx = None
    codes = copy.deepcopy(decoder.get_input_embeddings())
    codes.weight = nn.Parameter(make(alphabet_size, width) * std)
    codes.num_embeddings = alphabet_size
    codes.padding_idx = None
    encoder.set_input_embeddings(text)
    decoder.set_input_embeddings(codes)
    inner = getattr(model, model.base_model_prefix, model)
    if hasattr(inner, "shared"):
        inner.shared = codes
    head = nn.Linear(width, alphabet_size, bias=False)
    nn.init.normal_(head.weight, std=width**-0.5)
    model.set_output_embeddings(head)
    if hasattr(model, "final_logits_bias"):
        model.register_buffer("final_logits_bias", torch.zeros(1, alphabet_size))
    config.vocab_size = alphabet_size
    config.tie_word_embeddings = False
    if hasattr(config, "scale_decoder_outputs"):
        config.scale_decoder_outputs = False
    setattr(config, _TEXT_ROWS, text_vocabulary)
    for settings in (config, model.generation_config):
        settings.pad_token_id = settings.decoder_start_token_id = PAD
        settings.eos_token_id = END
        settings.bos_token_id = settings.forced_bos_token_id = settings.forced_eos_token_id = None
    return model


def set_text_rows(model: PreTrainedModel, rows: int) -> None:
    """Notes in the configuration how many tokens the encoder's embedding has rows for."""
    setattr(model.config, _TEXT_ROWS, rows)


def longest_text(model: PreTrainedModel) -> int | None:
    """Returns how many tokens the encoder has positions for; None where there is no limit (T5)."""
    return getattr(model.config, "max_position_embeddings", None)


def drops(model: PreTrainedModel) -> bool:
    """Returns whether the model drops hidden values in training."""
    names = ("dropout_rate", "dropout", "attention_dropout", "activation_dropout")
    return any((getattr(model.config, name, None) or 0) > 0 for name in names)


def save_backbone(model: PreTrainedModel, folder: str | os.PathLike[str]) -> None:
    """Writes config.json and model.safetensors into a folder, which is made."""
    from safetensors.torch import save_model

    from dsi.pawa import plain_class

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {**model.config.to_dict(), "architectures": [plain_class(model)]}
    config.pop("_name_or_path", None)  # a path of the machine it was trained on
    text = json.dumps(config, indent=2, default=str, sort_keys=True)
    (folder / _CONFIG).write_text(text + "\n", encoding="utf-8")
    save_model(model, str(folder / _WEIGHTS))


def load_backbone(
    folder: str | os.PathLike[str], device: str | torch.device = "cpu"
) -> PreTrainedModel:
    """Reads what `save_backbone` wrote, in evaluation mode.

    Raises:
        InputError: A file is missing, or the architecture is no encoder-decoder of transformers.
        RuntimeError: The weights do not fit the configuration.
    """
    import torch
    from safetensors.torch import load_model
    from transformers import AutoConfig
    from transformers.initialization import no_init_weights

    from dsi.pawa import LAYERS, add_pawa

    folder = Path(folder)
    for file in (_CONFIG, _WEIGHTS):
        if not (folder / file).is_file():
            raise InputError("no such file", where=folder / file)
    stored: dict[str, Any] = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    config = AutoConfig.for_model(**stored)
    # Weights that are read right after need not be drawn, which takes longer than reading them.
    with torch.random.fork_rng(devices=[]), no_init_weights():
        model = _architecture(stored["architectures"][0], folder)(config)
        model = graft_docids(model, stored[_TEXT_ROWS], stored["vocab_size"], draw=False)
    if LAYERS in stored:
        model = add_pawa(model, stored[LAYERS])
    load_model(model, folder / _WEIGHTS, strict=True)
    placed: Any = model
    return placed.to(device).eval()


def _architecture(name: str, folder: Path) -> Any:
    """Returns a model class of transformers by name; only encoder-decoders are let through."""
    import transformers
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )

    if name not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.values():
        raise InputError(f"{name!r} is no encoder-decoder of transformers", where=folder / _CONFIG)
    return getattr(transformers, name)
