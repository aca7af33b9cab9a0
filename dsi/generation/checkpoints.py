"""Loads models that write text, from checkpoints of transformers and from GGUF files."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import InputError
from data_prep.remote_code import checked_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_writer(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads a model that writes text, and its tokenizer, in fp32.

    Args:
        name: A hub id, the path of a folder, or that of a GGUF file, whose weights are
            de-quantised.

    Raises:
        InputError: It cannot be loaded, or is neither an encoder-decoder nor a causal model.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
        AutoTokenizer,
    )

    place, more = _place(name)
    try:
        config = checked_config(place, **more)
        kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = kind.from_pretrained(place, trust_remote_code=False, dtype=torch.float32, **more)
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False, **more)
    except (SafetensorError, *_UNREADABLE) as error:
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"cannot load the model {name!r} ({told})",
            mend="Give a hub id that this machine can reach, the path of a folder with the "
            "checkpoint and its tokenizer, or a GGUF file of a causal model",
        ) from None
    return model, tokenizer


_UNREADABLE = (OSError, ValueError, LookupError, ImportError, TypeError, struct.error)
"""What transformers and its readers of GGUF raise about files; the last ones about damaged ones."""


def _place(name: str) -> tuple[str, dict[str, str]]:
    """Returns what transformers is to load, and the option that names a GGUF file in it.

    Raises:
        InputError: It is a GGUF file, and the package that reads such files is not installed.
    """
    file = Path(name)
    if file.suffix.lower() != ".gguf" or not file.is_file():
        return name, {}
    if importlib.util.find_spec("gguf") is None:
        raise InputError(
            "reading a GGUF file needs the package gguf, which is not installed",
            where=file,
            mend="pip install 'dsi-toolkit[gguf]'",
        )
    return str(file.parent), {"gguf_file": file.name}


def weights_hash(name: str | os.PathLike[str]) -> str:
    """Returns what tells a checkpoint from others of the same name.

    SHA-256 over a file, or the weight files of a folder; the commit of a hub id that has been
    fetched.
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
    except (OSError, ValueError):
        return "unknown"
    return str(getattr(config, "_commit_hash", None) or "unknown")
