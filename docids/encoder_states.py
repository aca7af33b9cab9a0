"""Document vectors from the encoder of a pretrained encoder-decoder, such as T5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from data_prep.progress import track
from data_prep.remote_code import checked_config

PREFIX = "encoder:"
"""Prefix of an `--embedding.model` that names an encoder-decoder, whose encoder is used."""
_BATCH = 32
_TOKENS = 256


class EncoderEmbedder:
    """The mean of an encoder's states over the tokens of a text (Ni et al., Sentence-T5, 2022).

    Args:
        model: Hub id or folder of a transformers encoder-decoder.

    Raises:
        InputError: The model is not available, or has no encoder.
    """

    name: ClassVar[str] = "encoder"

    def __init__(self, model: str) -> None:
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        self.model = model
        try:
            checked_config(model)
            self._tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
            network = AutoModelForSeq2SeqLM.from_pretrained(
                model, trust_remote_code=False, use_safetensors=True
            )
        except InputError:
            raise
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot load the encoder-decoder {model!r} ({str(error).splitlines()[0]})",
                where="--embedding.model",
                hint="Give a hub id, or the folder of a downloaded model",
            ) from None
        self._encoder = network.get_encoder().eval()

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns float32 [texts, width]; see `docids.embeddings.Embedder.encode`.

        Only the first 256 tokens of each text are read; texts of similar length are batched
        together.
        """
        import torch

        tokens = [
            self._tokenizer(text, truncation=True, max_length=_TOKENS)["input_ids"]
            for text in texts
        ]
        order = np.argsort([len(line) for line in tokens], kind="stable")
        vectors = np.zeros((len(texts), self._encoder.config.hidden_size), np.float32)
        starts: Sequence[int] = range(0, len(texts), _BATCH)
        for start in track(starts, "Document vectors") if len(starts) > 1 else starts:
            rows = [row for row in order[start : start + _BATCH].tolist() if tokens[row]]
            if not rows:
                continue
            longest = max(len(tokens[row]) for row in rows)
            input_ids = torch.zeros((len(rows), longest), dtype=torch.int64)
            mask = torch.zeros_like(input_ids)
            for line, row in enumerate(rows):
                input_ids[line, : len(tokens[row])] = torch.tensor(tokens[row])
                mask[line, : len(tokens[row])] = 1
            with torch.inference_mode():
                states = self._encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).float()
            vectors[rows] = ((states * weights).sum(1) / weights.sum(1)).numpy()
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(norms, 1e-12)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Returns what `restore` needs: the name. The weights are not copied."""
        return {"model": self.model}, {}

    @classmethod
    def restore(
        cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> EncoderEmbedder:
        """Restores the embedder from `state`."""
        return cls(str(header["model"]))
