"""Codes that are trained for retrieval: the learning behind the kind `learned` (GenRet).

A network reads the vector of a text and the codes so far, and gives a state for the next code:

    s_t = x W + p_t + sum over i < t of P_i[z_i]        d_t = n(s_t) + W2 relu(W1 n(s_t))

(n is a layer norm without weights), and the probability of code k at position t is
softmax_k(<d_t, E_t[k]> / temperature), vectors of length 1. Positions are learned one after the
other (Sun et al., NeurIPS 2023, sections 3.3 and 3.4). Position t

1. warms up on the retrieval loss: among the documents of a batch, the state of a query is to be
   nearest to that of its document;
2. gets its codebook E_t by k-means over the states of all documents;
3. is trained on retrieval, on commitment (query and document both predict the document's code),
   on reconstruction (the code's vector is to be nearest to its document's state among those of
   the batch) and on the codes before it. Before each pass, documents are assigned anew: those
   with the same codes before t are spread evenly over the codes (Sinkhorn);
4. keeps the last assignment for good.

In the end all positions are fitted to their codes once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from data_prep.progress import track

if TYPE_CHECKING:
    import torch

_TEMPERATURE = 0.1
_SINKHORN_ROUNDS = 30
_SINKHORN_TEMPERATURE = 0.05
_CHUNK = 8192


@dataclass(frozen=True)
class LearningOptions:
    """How long and how fast codes are learned."""

    width: int = 256
    """Width of the network's states"""
    warmup_epochs: int = 1
    """Passes over the queries that a position is trained on retrieval alone"""
    epochs: int = 4
    """Passes over the queries for each position, and at the end for all"""
    batch: int = 256
    """Pairs of query and document in a step"""
    lr: float = 1e-3
    """Learning rate (AdamW)"""
    retrieval: float = 0.5
    """Weight of the retrieval loss (GenRet: 0.5)"""
    commitment: float = 0.5
    """Weight of the commitment loss (GenRet: 0.5)"""
    codes: float = 0.5
    """Weight of the loss of the codes before (GenRet: 0.5)"""
    reconstruction: float = 0.1
    """Weight of the reconstruction loss (GenRet: 0.1)"""

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("warmup_epochs", 0), ("epochs", 1), ("batch", 2)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}", mend=f"Give {least} or more")
        if not self.lr > 0:
            raise InputError(f"lr is {self.lr}", mend="Give a number above 0")
        for name in ("retrieval", "commitment", "codes", "reconstruction"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} is {getattr(self, name)}", mend="Give 0 or more")


@dataclass(frozen=True)
class Learner:
    """A trained network, which gives codes to vectors.

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
        documents: npt.NDArray[np.float32],
        queries: npt.NDArray[np.float32],
        owners: npt.NDArray[np.int64],
        *,
        levels: int,
        size: int,
        options: LearningOptions,
        seed: int,
    ) -> tuple[Learner, npt.NDArray[np.int64]]:
        """Learns codebooks, and the codes of the documents.

        Every document is a query for itself too, so that those without queries are learned.

        Args:
            documents: One vector each; float32 [documents, dimensions].
            queries: float32 [queries, dimensions].
            owners: The document of each query; int64 [queries].
            levels: Codes of a document.
            size: Codes in a codebook.
            options: How long and how fast.
            seed: Same vectors and seed, same codes.

        Returns:
            The network, and the codes, in [0, size); int64 [documents, levels].
        """
        course = _Course(documents, queries, owners, levels, size, options, seed)
        course.run()
        weights = {name: value.detach().numpy() for name, value in course.weights.items()}
        return cls(weights), course.codes

    def encode(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Returns the likeliest code at each position after those before it; int64 [n, levels].

        Raises:
            InputError: The vectors have not the dimensions of the network.
        """
        weights = self.weights
        if len(vectors) and vectors.shape[1] != len(weights["inner"]):
            raise InputError(
                f"document vectors of {vectors.shape[1]} dimensions, and the network reads "
                f"{len(weights['inner'])}",
                mend="Use the embedding model that the identifiers were made with",
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
        """Returns the network that `arrays` was taken from.

        Raises:
            InputError: The extras hold none.
        """
        names = ("inner", "position", "prefix", "codebook", "first", "second")
        missing = [name for name in names if name not in extras]
        if missing:
            raise InputError(
                f"the identifiers lack their network ({missing[0]!r} is missing)",
                mend="Assign them again",
            )
        return cls({name: extras[name] for name in names})


class _Course:
    """One run of the learning; `weights` and `codes` are its state."""

    def __init__(
        self,
        documents: npt.NDArray[np.float32],
        queries: npt.NDArray[np.float32],
        owners: npt.NDArray[np.int64],
        levels: int,
        size: int,
        options: LearningOptions,
        seed: int,
    ) -> None:
        import torch

        self.documents = torch.from_numpy(np.array(documents, np.float32))
        asked = np.concatenate([np.asarray(queries, np.float32), documents])
        self.queries = torch.from_numpy(asked)
        self.owners = torch.from_numpy(np.concatenate([owners, np.arange(len(documents))]))
        self.codes = np.zeros((len(documents), levels), np.int64)
        self.options = options
        self.seed = seed
        rng = np.random.default_rng([seed, 14])
        width = options.width

        def drawn(*shape: int, scale: float) -> torch.Tensor:
            values = (scale * rng.standard_normal(shape)).astype(np.float32)
            return torch.from_numpy(values).requires_grad_()

        self.weights = {
            "inner": drawn(documents.shape[1], width, scale=1.0),
            "position": drawn(levels, width, scale=0.1),
            "prefix": drawn(levels, size, width, scale=0.5),
            "codebook": drawn(levels, size, width, scale=1.0),
            "first": drawn(width, width, scale=width**-0.5),
            "second": drawn(width, width, scale=0.1 * width**-0.5),
        }
        self.optimiser = torch.optim.AdamW(
            list(self.weights.values()), lr=options.lr, weight_decay=0.0
        )

    def run(self) -> None:
        """Learns all positions."""
        levels = self.codes.shape[1]
        if not len(self.documents):
            return
        for level in track(range(levels), "positions learned"):
            for epoch in range(self.options.warmup_epochs):
                self._pass(level, epoch, committed=False)
            self._start_codebook(level)
            for epoch in range(self.options.epochs):
                self._assign(level)
                self._pass(level, self.options.warmup_epochs + epoch, committed=True)
            self._assign(level)
        for epoch in range(self.options.epochs):
            self._pass(levels - 1, 1000 + epoch, committed=True)

    def _state(self, read: torch.Tensor, codes: torch.Tensor, level: int) -> torch.Tensor:
        """Returns d_t after the codes before `level`; [texts, width]."""
        import torch

        state = read + self.weights["position"][level]
        for before in range(level):
            state = state + self.weights["prefix"][before][codes[:, before]]
        state = torch.nn.functional.layer_norm(state, state.shape[-1:], eps=1e-5)
        return state + (state @ self.weights["first"]).relu() @ self.weights["second"]

    def _logits(self, state: torch.Tensor, level: int) -> torch.Tensor:
        normalise = _normalise(state), _normalise(self.weights["codebook"][level])
        return normalise[0] @ normalise[1].T / _TEMPERATURE

    def _pass(self, level: int, epoch: int, *, committed: bool) -> None:
        """Trains on every pair of query and document once."""
        import torch

        rng = np.random.default_rng([self.seed, 15, level, epoch])
        order = torch.from_numpy(rng.permutation(len(self.owners)))
        codes = torch.from_numpy(self.codes)
        for picked in order.split(self.options.batch):
            owners = self.owners[picked]
            loss = self._loss(self.queries[picked], owners, codes[owners], level, committed)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()

    def _loss(
        self,
        queries: torch.Tensor,
        owners: torch.Tensor,
        codes: torch.Tensor,
        level: int,
        committed: bool,
    ) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        options, inner = self.options, self.weights["inner"]
        asked, told = queries @ inner, self.documents[owners] @ inner
        query = self._state(asked, codes, level)
        document = self._state(told, codes, level)
        loss = options.retrieval * _contrast(query, document, owners)
        for before in range(level):
            for read in (asked, told):
                logits = self._logits(self._state(read, codes, before), before)
                loss = loss + options.codes / (2 * level) * cross_entropy(logits, codes[:, before])
        if committed:
            wanted = codes[:, level]
            for state in (query, document):
                logits = self._logits(state, level)
                loss = loss + options.commitment / 2 * cross_entropy(logits, wanted)
            quantised = self.weights["codebook"][level][wanted]
            loss = loss + options.reconstruction * _contrast(quantised, document.detach(), owners)
        return loss

    def _states_of_documents(self, level: int) -> npt.NDArray[np.float32]:
        import torch

        with torch.no_grad():
            parts = [
                self._state(part @ self.weights["inner"], codes, level)
                for part, codes in zip(
                    self.documents.split(_CHUNK),
                    torch.from_numpy(self.codes).split(_CHUNK),
                    strict=True,
                )
            ]
            return _normalise(torch.cat(parts)).numpy()

    def _start_codebook(self, level: int) -> None:
        """Sets the codebook of a position to the centres of k-means over the documents."""
        import torch

        from docids.kinds.clustering import kmeans, one_thread

        states = self._states_of_documents(level)
        book = self.weights["codebook"]
        rng = np.random.default_rng([self.seed, 16, level])
        sample = states[rng.permutation(len(states))[: 256 * book.shape[1]]]
        parts = min(book.shape[1], len(sample))
        with one_thread():
            centres = kmeans(sample, parts, 10, int(rng.integers(2**31)))
        with torch.no_grad():
            book[level, :parts] = torch.from_numpy(centres)

    def _assign(self, level: int) -> None:
        """Spreads the documents with the same codes before over the codes of a position."""
        import torch

        with torch.no_grad():
            book = _normalise(self.weights["codebook"][level]).numpy()
        states = self._states_of_documents(level)
        group = np.zeros(len(states), np.int64)
        if level:
            group = np.unique(self.codes[:, :level], axis=0, return_inverse=True)[1].reshape(-1)
        self.codes[:, level] = balanced(states @ book.T, group)


def balanced(
    scores: npt.NDArray[np.float32], group: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Assigns each line to a code so that the lines of a group are spread over all codes.

    Sinkhorn's rounds make the soft assignment of each group use all codes equally; each line then
    takes the code that it has most of.

    Args:
        scores: How near each line is to each code; float32 [lines, codes].
        group: In which group each line is; int64 [lines].

    Returns:
        int64 [lines].
    """
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    sizes = np.diff(np.append(starts, len(ordered)))
    owner = np.repeat(np.arange(len(starts)), sizes)
    logits = scores[order] / _SINKHORN_TEMPERATURE
    shares = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
    for _ in range(_SINKHORN_ROUNDS):
        shares /= shares.sum(axis=1, keepdims=True)
        used = np.add.reduceat(shares, starts, axis=0)
        used *= scores.shape[1] / sizes[:, None]
        shares /= np.maximum(used, 1e-12)[owner]
    chosen = np.empty(len(scores), np.int64)
    chosen[order] = shares.argmax(axis=1)
    return chosen


def _normalise(vectors: Any) -> Any:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def _contrast(asked: torch.Tensor, given: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of finding each line's own document among those of the batch."""
    import torch

    logits = _normalise(asked) @ _normalise(given).T / _TEMPERATURE
    # The same document may stand in a batch twice; it is no wrong answer to itself.
    same = owners[:, None] == owners[None, :]
    same.fill_diagonal_(False)
    return torch.nn.functional.cross_entropy(
        logits.masked_fill(same, -torch.inf), torch.arange(len(logits))
    )
