"""An encoder-decoder and its tokenizer, as transformers keeps them: weights are safetensors."""

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
        name: Hub id or path that it was loaded from.
        model: A model of transformers, float32.
        tokenizer: What turns texts into its tokens.
    """

    name: str
    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, name: str, *, where: str | Path, hint: str) -> Checkpoint:
        """Loads a checkpoint; no code of it is run.

        Args:
            name: Hub id, or path of a folder.
            where: Who asks, for the error.
            hint: What to do where there is none.

        Raises:
            InputError: It is not to be had, or is no encoder-decoder with safetensors.
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
                f"no encoder-decoder {name!r} ({str(error).splitlines()[0]})",
                where=where,
                hint=hint,
            ) from None
        return cls(name, model, tokenizer)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes config.json, model.safetensors and the tokenizer into a folder, which is made."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
