"""The training loop, position by position; the package docstring describes the objective."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data_prep.descriptor_lock import only_writer
from data_prep.errors import InputError
from data_prep.progress import track
from docids.code_learning.balance import balanced
from docids.code_learning.networks import Network
from docids.code_learning.options import LearningOptions
from docids.kinds.codebooks import refuse_collapse
from docids.store import open_store, write_store

if TYPE_CHECKING:
    import torch

TEMPERATURE = 0.1
"""The temperature: logits are cosines divided by it."""
_MOMENTS = ("exp_avg", "exp_avg_sq")
_LAST = 1000
"""The epoch number at which the final fit starts; random numbers depend on the epoch number."""


class CodebookTrainer:
    """One training run; its state is the network's weights, `codebooks` and `codes`.

    Args:
        network: The network that reads the texts.
        levels: Codes of a document.
        size: Codes in a codebook.
        options: Training options.
        seed: Seed of everything random.
    """

    def __init__(
        self, network: Network, levels: int, size: int, options: LearningOptions, seed: int
    ) -> None:
        import torch

        self.network = network
        self.codes = np.zeros((network.documents, levels), np.int64)
        self.moved = np.zeros(network.documents, bool)
        """Whether balance gave a document another code than the likeliest, at some position."""
        self.options = options
        self.seed = seed
        self._done = 0
        initial = np.random.default_rng([seed, 17]).standard_normal((levels, size, network.width))
        self.codebooks = torch.from_numpy(initial.astype(np.float32)).to(network.device)
        self.codebooks.requires_grad_()
        self.weights = {**network.weights, "codebook": self.codebooks}
        self.optimizer = torch.optim.AdamW(
            list(self.weights.values()), lr=options.lr, weight_decay=0.0
        )

    def run(self, folder: Path | None = None) -> None:
        """Learns all positions.

        Args:
            folder: Where to save the state after each pass, and to resume from if the same run was
                interrupted; None to save nothing.

        Raises:
            InputError: A codebook has collapsed, the loss is not a finite number, or another
                process learns in this folder.
        """
        if not self.network.documents:
            return
        if folder is None:
            self._learn(None)
            return
        with only_writer(folder):
            self._restore(folder / "trainer")
            self._learn(folder / "trainer")

    def _learn(self, state: Path | None) -> None:
        """Takes the steps that are left, and saves the state after each."""
        steps = self._steps()
        for number in track(range(len(steps)), "codes learned"):
            if number >= self._done:
                steps[number]()
                self._done = number + 1
                if state is not None:
                    self._save(state)

    def _steps(self) -> list[Callable[[], None]]:
        """Lists the steps in order."""
        warmup, epochs = self.options.warmup_epochs, self.options.epochs
        steps: list[Callable[[], None]] = []
        for level in range(self.codes.shape[1]):
            steps += [partial(self._pass, level, epoch, False) for epoch in range(warmup)]
            steps.append(partial(self._start_codebook, level))
            for epoch in range(epochs):
                steps.append(partial(self._assign_and_pass, level, warmup + epoch))
            steps.append(partial(self._freeze_position, level))
        last = self.codes.shape[1] - 1
        steps += [partial(self._pass, last, _LAST + epoch, True) for epoch in range(epochs)]
        return steps

    @cached_property
    def _key(self) -> str:
        """Returns a fingerprint of this run."""
        about = [self.network.content(), *self.codebooks.shape, self.seed, asdict(self.options)]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def _save(self, folder: Path) -> None:
        """Writes the state; all weights go into one array, which is faster than a file for each."""
        import torch

        weights = list(self.weights.values())
        states = [self.optimizer.state.get(weight, {}) for weight in weights]
        arrays: dict[str, np.ndarray] = {
            "weights": _flat(weights),
            "codes": self.codes,
            "moved": self.moved,
        }
        for part in _MOMENTS:
            zeros = [torch.zeros_like(weight) for weight in weights]
            moments = [state.get(part, zero) for state, zero in zip(states, zeros, strict=True)]
            arrays[part] = _flat(moments)
        arrays["steps"] = np.array([float(state.get("step", 0)) for state in states], np.float32)
        write_store(folder, "trainer", {"key": self._key, "done": self._done}, arrays)

    def _restore(self, folder: Path) -> None:
        """Resumes from the saved state of the same run, if there is one."""
        import torch

        if not (folder / "trainer.json").is_file():
            return
        header, arrays = open_store(folder, "trainer")
        if header["key"] != self._key:
            return
        self._done = header["done"]
        self.codes, self.moved = np.array(arrays["codes"]), np.array(arrays["moved"])
        weights = list(self.weights.values())
        moments = {part: _unflattened(arrays[part], weights) for part in _MOMENTS}
        with torch.no_grad():
            for number, value in enumerate(_unflattened(arrays["weights"], weights)):
                weights[number].copy_(value)
                if arrays["steps"][number]:
                    self.optimizer.state[weights[number]] = {
                        "step": torch.tensor(float(arrays["steps"][number])),
                        **{part: values[number] for part, values in moments.items()},
                    }

    def _logits(self, state: torch.Tensor, level: int) -> torch.Tensor:
        normalized = _normalize(state), _normalize(self.codebooks[level])
        return normalized[0] @ normalized[1].T / TEMPERATURE

    def _assign_and_pass(self, level: int, epoch: int) -> None:
        self._assign(level)
        self._pass(level, epoch, True)

    def _pass(self, level: int, epoch: int, committed: bool) -> None:
        """Trains on every pair of query and document once."""
        import torch

        rng = np.random.default_rng([self.seed, 15, level, epoch])
        order = torch.from_numpy(rng.permutation(len(self.network.owners)))
        codes = torch.from_numpy(self.codes)
        for rows in order.split(self.options.batch):
            document_codes = codes[self.network.owners[rows]].to(self.network.device)
            loss = self._loss(rows, document_codes, level, committed)
            if not loss.isfinite():
                raise InputError(
                    f"the loss of learned codes is {loss.item()} at position {level + 1}",
                    where=f"--learned.lr {self.options.lr:g}",
                    hint="Use a lower learning rate",
                )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def _loss(
        self, rows: torch.Tensor, codes: torch.Tensor, level: int, committed: bool
    ) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        options, network = self.options, self.network
        owners = network.owners[rows]
        # The texts of documents come after the queries.
        first = len(network.owners) - network.documents
        query_states, document_states = (
            network.states(network.read(texts), codes, self.codebooks, level + 1)
            for texts in (rows, first + owners)
        )
        owners = owners.to(network.device)
        query, document = query_states[level], document_states[level]
        loss = options.retrieval * _contrast(query, document, owners)
        for before in range(level):
            for states in (query_states, document_states):
                logits = self._logits(states[before], before)
                loss = loss + options.codes / (2 * level) * cross_entropy(logits, codes[:, before])
        if committed:
            targets = codes[:, level]
            for state in (query, document):
                logits = self._logits(state, level)
                loss = loss + options.commitment / 2 * cross_entropy(logits, targets)
            quantized = self.codebooks[level][targets]
            loss = loss + options.reconstruction * _contrast(quantized, document.detach(), owners)
        return loss

    def _states_of_documents(self, level: int) -> npt.NDArray[np.float32]:
        import torch

        network = self.network
        codes = torch.from_numpy(self.codes).to(network.device)
        rows = torch.arange(network.documents)
        first = len(network.owners) - network.documents
        with torch.no_grad():
            parts = [
                network.states(network.read(first + part), codes[part], self.codebooks, level + 1)[
                    level
                ]
                for part in rows.split(network.chunk)
            ]
            return _normalize(torch.cat(parts)).cpu().numpy()

    def _start_codebook(self, level: int) -> None:
        """Sets the codebook of a position to the k-means centroids of the documents."""
        import torch

        from docids.kinds.clustering import kmeans, one_thread

        states = self._states_of_documents(level)
        book = self.codebooks
        rng = np.random.default_rng([self.seed, 16, level])
        sample = states[rng.permutation(len(states))[: 256 * book.shape[1]]]
        parts = min(book.shape[1], len(sample))
        with one_thread():
            centers = kmeans(sample, parts, 10, int(rng.integers(2**31)))
        with torch.no_grad():
            book[level, :parts] = torch.from_numpy(centers)

    def _assign(self, level: int) -> npt.NDArray[np.float32]:
        """Spreads documents with the same prefix over the codes of a position.

        Returns:
            The similarity of each document to each code; float32 [documents, codes].
        """
        import torch

        with torch.no_grad():
            book = _normalize(self.codebooks[level]).numpy()
        states = self._states_of_documents(level)
        group = np.zeros(len(states), np.int64)
        if level:
            group = np.unique(self.codes[:, :level], axis=0, return_inverse=True)[1].reshape(-1)
        near = states @ book.T
        self.codes[:, level] = balanced(near, group)
        return near

    def _freeze_position(self, level: int) -> None:
        """Freezes the codes of a position.

        Balancing would hide a network that cannot tell documents apart. Its most likely codes
        without balancing, as for queries, must therefore use the codebook too.

        Raises:
            InputError: The codebook has collapsed.
        """
        near = self._assign(level)
        likeliest = near.argmax(axis=1)
        self.moved |= likeliest != self.codes[:, level]
        for codes, whose in ((self.codes[:, level], "assigned"), (likeliest, "likeliest")):
            refuse_collapse(
                codes[:, None],
                self.codebooks.shape[1],
                self.network.distinct,
                least=self.options.least_use,
                option="--learned.least_use",
                first=level + 1,
                whose=whose,
            )


def _flat(tensors: Sequence[torch.Tensor]) -> npt.NDArray[np.float32]:
    return np.concatenate([tensor.detach().cpu().numpy().ravel() for tensor in tensors])


def _unflattened(
    flat: npt.NDArray[np.float32], tensors: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Splits what `_flat` joined."""
    import torch

    ends = np.cumsum([tensor.numel() for tensor in tensors])
    return [
        torch.from_numpy(part.copy()).reshape(tensor.shape).to(tensor.device)
        for part, tensor in zip(np.split(flat, ends[:-1]), tensors, strict=True)
    ]


def _normalize(vectors: Any) -> Any:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def _contrast(queries: torch.Tensor, documents: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of finding each row's own document among those of the batch."""
    import torch

    logits = _normalize(queries) @ _normalize(documents).T / TEMPERATURE
    # A document that occurs twice in a batch is not a negative for itself.
    same = owners[:, None] == owners[None, :]
    same.fill_diagonal_(False)
    return torch.nn.functional.cross_entropy(
        logits.masked_fill(same, -torch.inf), torch.arange(len(logits), device=logits.device)
    )
