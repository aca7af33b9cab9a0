"""The learning itself, position by position; see the package for what is learned."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from data_prep.progress import track
from docids.code_learning.balance import balanced
from docids.code_learning.options import LearningOptions, Pairs
from docids.kinds.codebooks import refuse_collapse
from docids.store import open_store, write_store

if TYPE_CHECKING:
    import torch

_TEMPERATURE = 0.1
_CHUNK = 8192
_LAST = 1000
"""Where the passes of the last fit are counted from; random numbers go by the count."""


class Course:
    """One run of the learning; `weights` and `codes` are its state.

    Args:
        pairs: What is learned from; every document is a query for itself too, so that those
            without queries are learned.
        levels: Codes of a document.
        size: Codes in a codebook.
        options: How long and how fast.
        seed: Of everything drawn at random.
    """

    def __init__(
        self, pairs: Pairs, levels: int, size: int, options: LearningOptions, seed: int
    ) -> None:
        import torch

        self.vectors = np.array(pairs.documents, np.float32)
        self.documents = torch.from_numpy(self.vectors)
        asked = np.concatenate([np.asarray(pairs.queries, np.float32), pairs.documents])
        self.queries = torch.from_numpy(asked)
        owners = np.concatenate([pairs.owners, np.arange(len(pairs.documents))])
        self.owners = torch.from_numpy(owners)
        self.codes = np.zeros((len(pairs.documents), levels), np.int64)
        self.moved = np.zeros(len(pairs.documents), bool)
        """Whether balance gave a document another code than the likeliest, at some position."""
        self.options = options
        self.seed = seed
        self._size = size
        self._done = 0
        rng = np.random.default_rng([seed, 14])
        width = options.width

        def drawn(*shape: int, scale: float) -> torch.Tensor:
            values = (scale * rng.standard_normal(shape)).astype(np.float32)
            return torch.from_numpy(values).requires_grad_()

        self.weights = {
            "inner": drawn(pairs.documents.shape[1], width, scale=1.0),
            "position": drawn(levels, width, scale=0.1),
            "prefix": drawn(levels, size, width, scale=0.5),
            "codebook": drawn(levels, size, width, scale=1.0),
            "first": drawn(width, width, scale=width**-0.5),
            "second": drawn(width, width, scale=0.1 * width**-0.5),
        }
        self.optimiser = torch.optim.AdamW(
            list(self.weights.values()), lr=options.lr, weight_decay=0.0
        )

    def run(self, folder: Path | None = None) -> None:
        """Learns all positions.

        Args:
            folder: Where to keep the state after each pass, and to continue from it where the
                same learning was interrupted; None for nowhere.

        Raises:
            InputError: A codebook has collapsed, or the loss is no finite number.
        """
        if not len(self.documents):
            return
        state = None if folder is None else folder / "course"
        if state is not None:
            self._restore(state)
        steps = self._steps()
        for number in track(range(len(steps)), "codes learned"):
            if number >= self._done:
                steps[number]()
                self._done = number + 1
                if state is not None:
                    self._save(state)

    def _steps(self) -> list[Callable[[], None]]:
        """Lists what is done, one thing after the other."""
        warmup, epochs = self.options.warmup_epochs, self.options.epochs
        steps: list[Callable[[], None]] = []
        for level in range(self.codes.shape[1]):
            steps += [partial(self._pass, level, epoch, False) for epoch in range(warmup)]
            steps.append(partial(self._start_codebook, level))
            for epoch in range(epochs):
                steps.append(partial(self._assign_and_pass, level, warmup + epoch))
            steps.append(partial(self._settle, level))
        last = self.codes.shape[1] - 1
        steps += [partial(self._pass, last, _LAST + epoch, True) for epoch in range(epochs)]
        return steps

    @cached_property
    def _key(self) -> str:
        """Returns what tells this learning from any other."""
        found = hashlib.sha256()
        for array in (self.vectors, self.queries.numpy(), self.owners.numpy()):
            found.update(np.ascontiguousarray(array).data)
        shape = [self.codes.shape[1], self._size, self.seed, asdict(self.options)]
        found.update(json.dumps(shape).encode())
        return found.hexdigest()

    def _save(self, folder: Path) -> None:
        arrays = {name: value.detach().numpy() for name, value in self.weights.items()}
        for name, weight in self.weights.items():
            for part, value in self.optimiser.state[weight].items():
                arrays[f"{name}.{part}"] = value.numpy()
        header = {"key": self._key, "done": self._done}
        write_store(folder, "course", header, {**arrays, "codes": self.codes, "moved": self.moved})

    def _restore(self, folder: Path) -> None:
        """Takes up the state of the same learning, where there is one."""
        import torch

        if not (folder / "course.json").is_file():
            return
        header, arrays = open_store(folder, "course")
        if header["key"] != self._key:
            return
        self._done = header["done"]
        self.codes, self.moved = np.array(arrays["codes"]), np.array(arrays["moved"])
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(torch.from_numpy(np.array(arrays[name])))
                self.optimiser.state[weight] = {
                    part: torch.from_numpy(np.array(arrays[f"{name}.{part}"]))
                    for part in ("step", "exp_avg", "exp_avg_sq")
                    if f"{name}.{part}" in arrays
                }

    def _state(self, read: torch.Tensor, codes: torch.Tensor, level: int) -> torch.Tensor:
        """Returns d_t after the codes before `level`; [texts, width]."""
        import torch

        state = read + self.weights["position"][level]
        for before in range(level):
            state = state + self.weights["prefix"][before][codes[:, before]]
        state = torch.nn.functional.layer_norm(state, state.shape[-1:], eps=1e-5)
        return state + (state @ self.weights["first"]).relu() @ self.weights["second"]

    def _logits(self, state: torch.Tensor, level: int) -> torch.Tensor:
        normalised = _normalise(state), _normalise(self.weights["codebook"][level])
        return normalised[0] @ normalised[1].T / _TEMPERATURE

    def _assign_and_pass(self, level: int, epoch: int) -> None:
        self._assign(level)
        self._pass(level, epoch, True)

    def _pass(self, level: int, epoch: int, committed: bool) -> None:
        """Trains on every pair of query and document once."""
        import torch

        rng = np.random.default_rng([self.seed, 15, level, epoch])
        order = torch.from_numpy(rng.permutation(len(self.owners)))
        codes = torch.from_numpy(self.codes)
        for picked in order.split(self.options.batch):
            owners = self.owners[picked]
            loss = self._loss(self.queries[picked], owners, codes[owners], level, committed)
            if not loss.isfinite():
                raise InputError(
                    f"the loss of learned codes is {loss.item()} at position {level + 1}",
                    where=f"--learned.lr {self.options.lr:g}",
                    mend="Take a lower learning rate",
                )
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

    def _assign(self, level: int) -> npt.NDArray[np.float32]:
        """Spreads the documents with the same codes before over the codes of a position.

        Returns:
            How near each document is to each code; float32 [documents, codes].
        """
        import torch

        with torch.no_grad():
            book = _normalise(self.weights["codebook"][level]).numpy()
        states = self._states_of_documents(level)
        group = np.zeros(len(states), np.int64)
        if level:
            group = np.unique(self.codes[:, :level], axis=0, return_inverse=True)[1].reshape(-1)
        near = states @ book.T
        self.codes[:, level] = balanced(near, group)
        return near

    def _settle(self, level: int) -> None:
        """Assigns the codes of a position for good.

        Balance would hide that a network tells no documents apart: what it finds likeliest by
        itself, as it does for queries, must use the codebook as well.

        Raises:
            InputError: The codebook has collapsed.
        """
        near = self._assign(level)
        likeliest = near.argmax(axis=1)
        self.moved |= likeliest != self.codes[:, level]
        for codes, whose in ((self.codes[:, level], "assigned"), (likeliest, "likeliest")):
            refuse_collapse(
                codes[:, None],
                self._size,
                self.vectors,
                least=self.options.least_use,
                option="--learned.least_use",
                first=level + 1,
                whose=whose,
            )


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
