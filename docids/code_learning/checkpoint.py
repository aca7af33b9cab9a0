"""An encoder-decoder and its tokenizer, saved as transformers does, with safetensors weights."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.remote_code import checked_config


@dataclass(frozen=True)
class Checkpoint:
    """An encoder-decoder with its tokenizer.

    Attributes:
        name: Hub id or path it was loaded from.
        model: A transformers model in float32.
        tokenizer: The model's tokenizer.
    """

    name: str
    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, name: str, *, where: str | Path, hint: str) -> Checkpoint:
        """Loads a checkpoint; never runs code that comes with it.

        Args:
            name: Hub id, or path of a folder.
            where: The option that names the checkpoint, for error messages.
            hint: What to do if there is none.

        Raises:
            InputError: The checkpoint is not available, or is not an encoder-decoder with
                safetensors.
        """
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        try:
            checked_config(name)
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            model = AutoModelForSeq2SeqLM.from_pretrained(
                name, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        except InputError:
            raise
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise InputError(
                f"cannot load the encoder-decoder {name!r} ({str(error).splitlines()[0]})",
                where=where,
                hint=hint,
            ) from None
        return cls(name, model, tokenizer)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes config.json, model.safetensors and the tokenizer to a folder, creating it."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
