"""Loads text generation models from transformers checkpoints and GGUF files."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import InputError
from data_prep.files import read_json
from data_prep.remote_code import check_loaded, checked_config, reason_of
from dsi.hub.checkpoint_location import checkpoint_location
from dsi.index_folder.version_files import COPY, MOST_TOKENIZER

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_writer(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads a text generation model in fp32, and its tokenizer.

    Args:
        name: A hub id, the path of a folder, or that of a GGUF file, whose weights are dequantized.

    Raises:
        InputError: It cannot be loaded, is neither an encoder-decoder nor a causal model, or has
            weights that are not finite.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
        AutoTokenizer,
    )

    place, more = checkpoint_location(name)
    try:
        config = checked_config(place, **more)
        kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = kind.from_pretrained(place, trust_remote_code=False, dtype=torch.float32, **more)
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False, **more)
    except InputError:
        raise
    except (SafetensorError, *_UNREADABLE) as error:
        raise InputError(
            f"cannot load the model {name!r} ({reason_of(error)})",
            hint="Give a hub id that this machine can reach, the path of a folder with the "
            "checkpoint and its tokenizer, or a GGUF file of a causal model",
        ) from None
    check_loaded(model, name)
    return model, tokenizer


_MOST_COMPUTED = 1 << 24

_UNREADABLE = (
    OSError, ValueError, LookupError, ImportError, TypeError, EOFError, struct.error,
    pickle.UnpicklingError, RuntimeError,
)  # fmt: skip
"""Exceptions of transformers and its GGUF readers for files; the last ones for damaged files."""


def check_stored(folder: Path) -> None:
    """Refuses a checkpoint that would take more time or memory than its weights warrant.

    For checkpoints that this toolkit wrote and an untrusted party may have modified: the check runs
    before anything of the size in its configuration is allocated.

    Args:
        folder: What `save_pretrained` wrote.

    Raises:
        InputError: A file is missing, damaged or too large, or the configuration describes a
            network with more weights than stored.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    from dsi.backbones.backbone import check_weights

    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise InputError("no weights in this folder (*.safetensors)", where=folder, hint=COPY)
    for file in folder.iterdir():
        if not file.is_file() and (file in weights or not file.is_dir()):
            raise InputError("not a file", where=file, hint=COPY)
    for file in folder.iterdir():
        if file not in weights and file.stat().st_size > MOST_TOKENIZER:
            raise InputError(f"more than {MOST_TOKENIZER:,} bytes", where=file, hint=COPY)
    shapes = [shape for file in weights for shape in check_weights(file).values()]
    stored = sum(math.prod(shape) for shape in shapes)
    _check_depth(read_json(folder / "config.json"), len(shapes), folder / "config.json")
    try:
        config = checked_config(str(folder))
        kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        with torch.device("meta"):
            network = kind.from_config(config, trust_remote_code=False)
        required = sum(parameter.numel() for parameter in network.parameters())
    except InputError:
        raise
    except (*_UNREADABLE, ArithmeticError, AttributeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"cannot build a model from it ({reason:.200})", where=folder) from None
    # Position tables are computed, not stored.
    if required > 2 * stored + _MOST_COMPUTED:
        raise InputError(
            f"the configuration implies {required:,} weights, but {stored:,} are stored",
            where=folder / "config.json",
            hint=COPY,
        )


def _check_depth(config: Any, tensors: int, where: Path) -> None:
    """Refuses more layers than tensors: layers take time even if they take no memory."""
    if not isinstance(config, dict):
        raise InputError("not the configuration of a model", where=where, hint=COPY)
    for key, value in config.items():
        if isinstance(value, dict):
            _check_depth(value, tensors, where)
        elif "layers" in key and isinstance(value, (int, float)) and not value <= max(tensors, 8):
            raise InputError(f"{key} is {value}, but there are {tensors} tensors", where=where)


def weights_hash(name: str | os.PathLike[str]) -> str:
    """Returns a fingerprint that tells a checkpoint from others of the same name.

    SHA-256 over a file or the weight files of a folder; for a downloaded hub id, its commit.
    """
    place = Path(name)
    if place.exists():
        digest = hashlib.sha256()
        files = sorted(place.glob("*.safetensors")) or sorted(place.glob("*.bin"))
        for file in [place] if place.is_file() else files:
            with file.open("rb") as content:
                for block in iter(lambda: content.read(1 << 20), b""):
                    digest.update(block)
        return digest.hexdigest()
    try:
        config = checked_config(str(name))
    except InputError:
        raise
    except (OSError, ValueError):
        return "unknown"
    return str(getattr(config, "_commit_hash", None) or "unknown")
