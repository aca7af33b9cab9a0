"""A text encoder that puts a trained prompt in front of a query, chosen by the query's topic.

PromptDSI (Huynh et al., ECML PKDD 2025) adds to a frozen model a pool of prefix prompts with fixed
topic keys. A prompt is a sequence of tokens that no text has, each with a row of its own in the
encoder's embedding, so that every decoder reads it as it reads words. A query gets the prompt of
the key nearest to its embedding by cosine. Keys of the documents that the network was trained on
have no prompt: their queries are read as before. The embedding does not depend on the network,
whose rows of new words say nothing yet: it is a random projection (Johnson and Lindenstrauss 1984)
of the query's tf-idf weights.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from data_prep.files import write_json
from dsi.text_encoders.text_encoder import SETTINGS_FILE, SentencepieceEncoder, TextEncoder

INNER = "inner"
"""The folder of the encoder that the prompts are put in front of."""
_KEYS = "prompts.safetensors"
_MOST_TOKENS = 1 << 24
DIMENSIONS = 128
"""Dimensions of the embedding of a query."""


class PromptPool(TextEncoder):
    """Prepends prompts to the tokens that another encoder returns for queries.

    Args:
        inner: The other encoder.
        idf: The weight of each token, as it was when the pool was made; that of later ones is the
            largest; float32 [tokens].
        keys: Topic keys of length 1; float32 [keys, DIMENSIONS].
        prompts: The tokens of each key's prompt; int64 [keys, tokens], -1 for no prompt.
    """

    kind = "prompt-pool"

    def __init__(
        self,
        inner: TextEncoder,
        idf: npt.NDArray[np.float32],
        keys: npt.NDArray[np.float32],
        prompts: npt.NDArray[np.int64],
    ) -> None:
        self.inner = inner
        self.idf, self.keys, self.prompts = idf, keys, prompts
        self.longest = inner.longest
        self.vocabulary_size = max(inner.vocabulary_size, int(prompts.max(initial=-1)) + 1)
        later = np.full(self.vocabulary_size - len(idf), idf.max(initial=1.0), np.float32)
        # The first rows are the same for every size.
        projections = np.random.default_rng(0).standard_normal(
            (self.vocabulary_size, DIMENSIONS), dtype=np.float32
        )
        self._vectors = projections * np.concatenate([idf, later])[:, None]

    @classmethod
    def around(cls, text: TextEncoder, queries: Sequence[str], tokens: int) -> PromptPool:
        """Returns the pool of an encoder: its own, or an empty one for prompts of so many tokens.

        Args:
            text: The encoder.
            queries: Queries from which a new pool counts how rare a token is.
            tokens: Tokens of a prompt in a new pool.
        """
        if isinstance(text, PromptPool):
            return text
        counts = np.zeros(text.vocabulary_size)
        for line in text.encode(queries, text.longest):
            counts[list(set(line))] += 1
        idf = np.log((1 + len(queries)) / (1 + counts)).astype(np.float32)
        keys = np.zeros((0, DIMENSIONS), np.float32)
        return cls(text, idf, keys, np.zeros((0, tokens), np.int64))

    @property
    def prompt_length(self) -> int:
        """See `TextEncoder.prompt_length`."""
        return self.inner.prompt_length + self.prompts.shape[1]

    def embedded(self, texts: Sequence[str], max_length: int) -> npt.NDArray[np.float32]:
        """Returns the embedding of queries, of length 1; float32 [texts, DIMENSIONS]."""
        return self._embedded(self.inner.encode(texts, max_length))

    def with_keys(self, keys: npt.NDArray[np.float32], *, prompted: bool) -> PromptPool:
        """Returns a pool with more keys; each has a new prompt if `prompted`, none otherwise."""
        tokens = self.prompts.shape[1]
        inner, more = self.inner, np.full((len(keys), tokens), -1)
        if prompted:
            first = self.vocabulary_size
            if isinstance(inner, SentencepieceEncoder) and inner.is_extensible:
                inner = inner.with_unused(more.size)
                first = inner.vocabulary_size - more.size
            more = first + np.arange(more.size).reshape(more.shape)
        return PromptPool(
            inner,
            self.idf,
            np.concatenate([self.keys, keys]).astype(np.float32),
            np.concatenate([self.prompts, more]),
        )

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Returns the prompt and the token ids of each query; the limit is that of the latter."""
        lines = self.inner.encode(texts, max_length)
        if not (len(self.keys) and lines):
            return lines
        chosen = self.prompts[(self._embedded(lines) @ self.keys.T).argmax(axis=1)]
        return [
            [*(prompt.tolist() if prompt[0] >= 0 else ()), *line]
            for prompt, line in zip(chosen, lines, strict=True)
        ]

    def encode_documents(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Returns the token ids of documents, which get no prompt."""
        return self.inner.encode_documents(texts, max_length)

    def part(self, document: Sequence[int], start: int, length: int) -> list[int]:
        """See `TextEncoder.part`."""
        return self.inner.part(document, start, length)

    def has_known_words(self, texts: Sequence[str]) -> list[bool]:
        """See `TextEncoder.has_known_words`."""
        return self.inner.has_known_words(texts)

    @property
    def is_extensible(self) -> bool:
        """See `TextEncoder.is_extensible`."""
        return self.inner.is_extensible

    def extended(self, texts: Sequence[str]) -> PromptPool:
        """See `TextEncoder.extended`."""
        return PromptPool(self.inner.extended(texts), self.idf, self.keys, self.prompts)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the encoder to a folder, creating it."""
        from safetensors.numpy import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.inner.save(folder / INNER)
        tensors = {"idf": self.idf, "keys": self.keys, "prompts": self.prompts}
        save_file(
            {name: np.ascontiguousarray(each) for name, each in tensors.items()}, folder / _KEYS
        )
        write_json(folder / SETTINGS_FILE, {"kind": self.kind})

    @classmethod
    def load(cls, folder: Path, inner: TextEncoder) -> PromptPool:
        """Opens the folder that `save` wrote.

        Args:
            folder: The folder.
            inner: The encoder in its folder `INNER`.

        Raises:
            InputError: A file is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            stored = load_file(folder / _KEYS)
            idf, keys, prompts = (stored[name] for name in ("idf", "keys", "prompts"))
            if prompts.ndim != 2 or not prompts.shape[1] or prompts.dtype != np.int64:
                raise ValueError("its prompts are no tokens")
            if idf.ndim != 1 or keys.shape != (len(prompts), DIMENSIONS):
                raise ValueError("its shapes do not match")
            most = min(_MOST_TOKENS, inner.vocabulary_size + prompts.size)
            if len(idf) > inner.vocabulary_size or prompts.max(initial=0) >= most:
                raise ValueError("it has more tokens than there can be")
            if ((prompts < 0) != (prompts[:, :1] < 0)).any() or prompts.min(initial=0) < -1:
                raise ValueError("a token of a prompt is negative")
            if any(each.dtype != np.float32 or not np.isfinite(each).all() for each in (idf, keys)):
                raise ValueError("its keys are not finite numbers in fp32")
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise InputError(f"cannot read the prompts ({error})", where=folder / _KEYS) from None
        return cls(inner, idf, keys, prompts)

    def _embedded(self, lines: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        sums = np.zeros((len(lines), DIMENSIONS), np.float32)
        for place, line in enumerate(lines):
            sums[place] = self._vectors[list(line)].sum(axis=0)
        return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
