"""The networks that are trained with the codes; they compute a text's state before each code."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from docids.code_learning.options import Pairs

if TYPE_CHECKING:
    import torch


class Network(Protocol):
    """A network that reads texts and codes.

    Texts are the queries, then all documents, each of which also serves as a query for itself.

    Attributes:
        owners: The document of each text; int64 [texts].
        documents: How many texts at the end are documents.
        chunk: Batch size for inference.
        width: Dimensions of a state.
        device: Device of the weights.
        distinct: Rows that are equal if and only if documents are; [documents, columns].
    """

    owners: torch.Tensor
    documents: int
    chunk: int
    width: int
    device: torch.device
    distinct: npt.NDArray[Any]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The trained parameters, by name."""
        ...

    def read(self, rows: torch.Tensor) -> Any:
        """Encodes texts, given by their rows; int64 [texts]."""
        ...

    def states(
        self, read: Any, codes: torch.Tensor, codebooks: torch.Tensor, levels: int
    ) -> list[torch.Tensor]:
        """Returns the states of texts before each of the first codes.

        Args:
            read: What `read` returned.
            codes: The codes of the texts; int64 [texts, levels or more].
            codebooks: float32 [all levels, size, width].
            levels: How many states.

        Returns:
            float32 [texts, width] each.
        """
        ...

    def content(self) -> str:
        """Returns a hash of the texts and of the untrained network."""
        ...


class VectorNetwork:
    """A small network over document vectors; the package docstring gives its formula.

    Args:
        pairs: The training data.
        levels: Codes of a document.
        size: Codes in a codebook.
        width: Dimensions of a state.
        seed: Seed of its initial weights.
    """

    chunk = 8192

    def __init__(self, pairs: Pairs, levels: int, size: int, width: int, seed: int) -> None:
        import torch

        self.documents = len(pairs.documents)
        self.distinct = pairs.documents
        self.width = width
        self.device = torch.device("cpu")
        vectors = np.concatenate([np.asarray(pairs.queries, np.float32), pairs.documents])
        self._texts = torch.from_numpy(vectors)
        owners = np.concatenate([pairs.owners, np.arange(self.documents)])
        self.owners = torch.from_numpy(owners)
        rng = np.random.default_rng([seed, 14])

        def random_weight(*shape: int, scale: float) -> torch.Tensor:
            values = (scale * rng.standard_normal(shape)).astype(np.float32)
            return torch.from_numpy(values).requires_grad_()

        self._weights = {
            "inner": random_weight(pairs.documents.shape[1], width, scale=1.0),
            "position": random_weight(levels, width, scale=0.1),
            "prefix": random_weight(levels, size, width, scale=0.5),
            "first": random_weight(width, width, scale=width**-0.5),
            "second": random_weight(width, width, scale=0.1 * width**-0.5),
        }

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """W, p, P, W1 and W2 of the package's formula; `Learner` gives their shapes."""
        return self._weights

    def read(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns x W; float32 [texts, width]."""
        return self._texts[rows] @ self._weights["inner"]

    def states(
        self, read: Any, codes: torch.Tensor, codebooks: torch.Tensor, levels: int
    ) -> list[torch.Tensor]:
        """Returns d_1, d_2, ...; see `Network.states`."""
        import torch

        weights = self._weights
        outputs, before = [], read
        for level in range(levels):
            state = before + weights["position"][level]
            state = torch.nn.functional.layer_norm(state, state.shape[-1:], eps=1e-5)
            outputs.append(state + (state @ weights["first"]).relu() @ weights["second"])
            if level + 1 < levels:
                before = before + weights["prefix"][level][codes[:, level]]
        return outputs

    def content(self) -> str:
        """Returns a hash of vectors and owners; the weights follow from the seed."""
        digest = hashlib.sha256()
        for tensor in (self._texts, self.owners):
            digest.update(np.ascontiguousarray(tensor.numpy()).data)
        return digest.hexdigest()
