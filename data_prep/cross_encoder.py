"""Cross-encoders, which score a query and a document that are read together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from data_prep.remote_code import checked_config

LONGEST = 512
"""Maximum length of query and document in tokens."""
BATCH = 32


class CrossEncoder:
    """A transformers sequence classifier, such as cross-encoder/ms-marco-MiniLM-L6-v2.

    The score is its only logit, or the last one where it has several.

    Args:
        name: A hub id, or the path of a folder.

    Raises:
        InputError: It cannot be loaded.
    """

    def __init__(self, name: str) -> None:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            checked_config(name)
            self._tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            model: Any = AutoModelForSequenceClassification.from_pretrained(
                name, trust_remote_code=False
            )
        except InputError:
            raise
        except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
            raise InputError(
                f"cannot load the cross-encoder {name!r} ({str(error).splitlines()[0]})",
                where="--filter.cross_encoder",
                hint="Give a hub id that this machine can reach, or the path of a folder",
            ) from None
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = model.to(self._device).eval()
        positions = getattr(model.config, "max_position_embeddings", None) or LONGEST
        self._longest = min(LONGEST, positions)

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns the score of each pair of a query and a document; float32 [pairs]."""
        import torch

        order = sorted(range(len(queries)), key=lambda n: len(queries[n]) + len(documents[n]))
        scores = np.zeros(len(queries), np.float32)
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            tokens = self._tokenizer(
                [queries[number] for number in batch],
                [documents[number] for number in batch],
                padding=True,
                truncation="longest_first",
                max_length=self._longest,
                return_tensors="pt",
            ).to(self._device)
            with torch.inference_mode():
                logits = self._model(**tokens).logits
            scores[batch] = logits[:, -1].float().cpu().numpy()
        return scores
