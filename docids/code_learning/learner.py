"""A trained network that assigns codes to vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from docids.code_learning.options import LearningOptions, Pairs

_CHUNK = 8192


@dataclass(frozen=True)
class Learned:
    """The codes of the training documents.

    Attributes:
        codes: In [0, size); int64 [documents, levels].
        moved: How many documents got a code other than the network's most likely one, for balance.
    """

    codes: npt.NDArray[np.int64]
    moved: int


@dataclass(frozen=True)
class Learner:
    """A trained network that assigns codes to vectors.

    Attributes:
        weights: inner [dimensions, width], position [levels, width], prefix and codebook [levels,
            size, width], first and second [width, width]; float32.
    """

    weights: Mapping[str, npt.NDArray[np.float32]]

    @property
    def size(self) -> int:
        """Codes in a codebook."""
        return self.weights["codebook"].shape[1]

    @property
    def levels(self) -> int:
        """Codes in an identifier."""
        return self.weights["codebook"].shape[0]

    @classmethod
    def train(
        cls,
        pairs: Pairs,
        *,
        levels: int,
        size: int,
        options: LearningOptions,
        seed: int,
        folder: Path | None = None,
    ) -> tuple[Learner, Learned]:
        """Learns the codebooks and the codes of the documents.

        Every document also serves as a query for itself, so that those without queries are learned.

        Args:
            pairs: Documents and queries.
            levels: Codes of a document.
            size: Codes in a codebook.
            options: Training options.
            seed: The same pairs and seed give the same codes.
            folder: Where work in progress is kept, so that an interrupted run can resume; None to
                keep nothing.

        Raises:
            InputError: A codebook has collapsed, or the loss is not a finite number.
        """
        from docids.code_learning.networks import VectorNetwork
        from docids.code_learning.trainer import CodebookTrainer

        network = VectorNetwork(pairs, levels, size, options.width, seed)
        trainer = CodebookTrainer(network, levels, size, options, seed)
        trainer.run(folder)
        weights = {name: value.detach().numpy() for name, value in trainer.weights.items()}
        return cls(weights), Learned(trainer.codes, int(trainer.moved.sum()))

    def encode(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Returns the most likely code at each position, given those before it; int64 [n, levels].

        Raises:
            InputError: The vectors do not match the dimensions of the network.
        """
        weights = self.weights
        if len(vectors) and vectors.shape[1] != len(weights["inner"]):
            raise InputError(
                f"the document vectors have {vectors.shape[1]} dimensions, but the network reads "
                f"{len(weights['inner'])}",
                hint="Use the embedding model that the identifiers were assigned with",
            )
        codes = np.zeros((len(vectors), self.levels), np.int64)
        for start in range(0, len(vectors), _CHUNK):
            part = slice(start, start + _CHUNK)
            read = vectors[part] @ weights["inner"]
            for level in range(self.levels):
                state = read + weights["position"][level]
                for before in range(level):
                    state = state + weights["prefix"][before][codes[part, before]]
                state = state - state.mean(axis=1, keepdims=True)
                state = state / np.sqrt(np.square(state).mean(axis=1, keepdims=True) + 1e-5)
                hidden = np.maximum(state @ weights["first"], 0)
                state = state + hidden @ weights["second"]
                book = weights["codebook"][level]
                book = book / np.maximum(np.linalg.norm(book, axis=1, keepdims=True), 1e-12)
                codes[part, level] = (state @ book.T).argmax(axis=1)
        return codes

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the network as extras of `Built`."""
        return dict(self.weights)

    @classmethod
    def of(cls, extras: Mapping[str, np.ndarray]) -> Learner:
        """Restores the network from `arrays`.

        Raises:
            InputError: The extras hold none.
        """
        names = ("inner", "position", "prefix", "codebook", "first", "second")
        missing = [name for name in names if name not in extras]
        if missing:
            raise InputError(
                f"the stored identifiers have no network ({missing[0]!r} is missing)",
                hint="Assign them again",
            )
        return cls({name: extras[name] for name in names})
