"""Token vectors of texts: from any transformer encoder, or with the head of a ColBERT model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from data_prep.files import read_json
from data_prep.progress import shows_bars
from data_prep.remote_code import import_sentence_transformers
from docids.muvera import TokenVectors
from docids.sentence_encoder import SentenceEncoder

_BATCH = 32
_BAR = 1000


class TokenEncoder:
    """One vector of norm 1 for each token of a text.

    A late-interaction model of sentence-transformers, PyLate or ColBERT has a head for token
    vectors, and its own treatment of queries; of any other encoder, the last states are taken. Text
    beyond the length that the encoder reads is ignored.

    Args:
        model: Hub id or folder.
        where: The option that named the model, for error messages.

    Attributes:
        width: Dimensions of a token vector.

    Raises:
        InputError: The package sentence-transformers or the model is not available, or it has no
            states of tokens.
    """

    def __init__(self, model: str, where: str | None = None) -> None:
        self.name = model
        self._where = where
        self._prompts: tuple[str | None, str | None] = (None, None)
        if _has_token_head(model):
            self._module: Any = _late_interaction(model, where)
        else:
            encoder = SentenceEncoder(model, where=where)
            self._module = encoder.module
            self._prompts = (encoder.query_prompt, encoder.document_prompt)
        self.width = 0  # set by the first pass
        self.width = self.documents(["a"]).vectors.shape[1]

    def queries(self, texts: Sequence[str], dtype: npt.DTypeLike = np.float32) -> TokenVectors:
        """Returns the token vectors of queries; see `documents`."""
        return self._encode(self._module.encode_query, texts, self._prompts[0], dtype)

    def documents(self, texts: Sequence[str], dtype: npt.DTypeLike = np.float32) -> TokenVectors:
        """Returns the token vectors of documents.

        Args:
            texts: The texts.
            dtype: float16 halves the memory of many documents.

        Raises:
            InputError: A vector is not finite.
        """
        return self._encode(self._module.encode_document, texts, self._prompts[1], dtype)

    def _encode(
        self, encode: Any, texts: Sequence[str], prompt: str | None, dtype: npt.DTypeLike
    ) -> TokenVectors:
        if not len(texts):
            return TokenVectors.of([], self.width)
        try:
            states = encode(
                list(texts),
                prompt=prompt or None,
                batch_size=_BATCH,
                output_value="token_embeddings",
                show_progress_bar=len(texts) > _BAR and shows_bars(),
            )
        except (IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"the encoder {self.name!r} does not return token vectors ({_first_line(error)})",
                where=self._where,
                hint="Use a transformer encoder or a late-interaction model",
            ) from None
        lines = [np.asarray(line.float().cpu().numpy(), np.float32) for line in states]
        for row, line in enumerate(lines):
            if not np.isfinite(line).all():
                raise InputError(
                    f"the encoder {self.name!r} returns vectors that are not finite (for the text "
                    f"{texts[row][:40]!r})",
                    where=self._where,
                    hint="Its weights are damaged, or it needs another precision",
                )
        lengths = (np.linalg.norm(line, axis=1, keepdims=True) for line in lines)
        unit = [
            (line / np.maximum(length, 1e-12)).astype(dtype)
            for line, length in zip(lines, lengths, strict=True)
        ]
        return TokenVectors.of(unit, unit[0].shape[1])


def _has_token_head(model: str) -> bool:
    """Tells whether a model is one of late interaction: a head for tokens, and no pooling."""
    folder = Path(model)
    config = _read(folder, "config_sentence_transformers.json", model)
    if isinstance(config, dict) and config.get("model_type") == "MultiVectorEncoder":
        return True
    modules = _read(folder, "modules.json", model)
    if isinstance(modules, list):
        kinds = [str(module.get("type", "")) for module in modules if isinstance(module, dict)]
        return any("pylate" in kind for kind in kinds)
    plain = _read(folder, "config.json", model)
    return isinstance(plain, dict) and "HF_ColBERT" in (plain.get("architectures") or [])


def _read(folder: Path, name: str, model: str) -> Any:
    """Returns a JSON file of a folder or hub id; None if there is none."""
    if folder.is_dir():
        return read_json(folder / name) if (folder / name).is_file() else None
    from transformers.utils import cached_file

    try:
        path = cached_file(model, name, _raise_exceptions_for_missing_entries=False)
    except OSError:  # the loader of the model reports it
        return None
    return read_json(Path(path)) if path else None


def _late_interaction(model: str, where: str | None) -> Any:
    """Returns the model as sentence-transformers loads it."""
    package = import_sentence_transformers(f"the late-interaction model {model!r}", where)
    try:
        loaded = package.MultiVectorEncoder(
            model, trust_remote_code=False, model_kwargs={"use_safetensors": True}
        )
    except MemoryError:
        raise
    except Exception as error:  # readers of foreign files may raise anything
        raise InputError(
            f"cannot load the late-interaction model {model!r} ({_first_line(error)})",
            where=where,
            hint="Give a hub id that this machine can reach, or the folder of a downloaded model",
        ) from None
    return loaded.float().eval()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
