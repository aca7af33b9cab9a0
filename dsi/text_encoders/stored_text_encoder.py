"""Opens the text encoder of an index, of any kind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.files import read_json
from dsi.text_encoders.prompt_pool import INNER, PromptPool
from dsi.text_encoders.prompt_template import TemplateEncoder
from dsi.text_encoders.prompted_encoder import PromptedEncoder
from dsi.text_encoders.text_encoder import (
    SETTINGS_FILE,
    PretrainedEncoder,
    SentencepieceEncoder,
    TextEncoder,
)


def open_text_encoder(folder: str | os.PathLike[str]) -> TextEncoder:
    """Opens what `TextEncoder.save` wrote.

    Raises:
        InputError: It is missing, or of an unknown kind.
    """
    folder = Path(folder)
    settings = read_json(folder / SETTINGS_FILE)
    encoders = (SentencepieceEncoder, PretrainedEncoder, PromptedEncoder, TemplateEncoder)
    kinds: dict[str, Any] = {each.kind: each for each in encoders}
    kind = settings.get("kind") if isinstance(settings, dict) else None
    if kind == PromptPool.kind:
        return PromptPool.load(folder, open_text_encoder(folder / INNER))
    if kind not in kinds:
        raise InputError(f"unknown text encoder {kind!r}", where=folder / SETTINGS_FILE)
    opened: TextEncoder = kinds[kind].load(folder, settings)
    return opened
