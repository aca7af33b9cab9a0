"""Codes that are trained together with an encoder-decoder such as T5, as in GenRet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from docids.code_learning.checkpoint import Checkpoint
from docids.code_learning.learner import Learned
from docids.code_learning.options import LearningOptions
from docids.code_learning.trainer import TEMPERATURE, CodebookTrainer

if TYPE_CHECKING:
    import torch

TOKENS = 128
"""Tokens of a text that are read."""
_ARRAYS = ("codebook", "start", "lengths")


class Seq2SeqNetwork:
    """An encoder-decoder: the state before a code is its decoder's output for the codes so far.

    The decoder reads its start token, then the vector of each code. Dropout is off, so that an
    interrupted run ends with the same result as an uninterrupted one.

    Args:
        checkpoint: The encoder-decoder; trained in place.
        queries: Texts of the queries.
        owners: The document of each; int64 [queries].
        documents: Texts of the documents.
    """

    chunk = 64

    def __init__(
        self,
        checkpoint: Checkpoint,
        queries: Sequence[str],
        owners: npt.NDArray[np.int64],
        documents: Sequence[str],
    ) -> None:
        import torch

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = checkpoint.model.eval().to(self.device)
        self._name = checkpoint.name
        self.documents = len(documents)
        self.width = self._model.get_decoder().get_input_embeddings().weight.shape[1]
        self._tokens = [
            checkpoint.tokenizer(text, truncation=True, max_length=TOKENS)["input_ids"] or [0]
            for text in (*queries, *documents)
        ]
        self.owners = torch.from_numpy(np.concatenate([owners, np.arange(len(documents))]))
        numbers: dict[tuple[int, ...], int] = {}
        document_keys = (tuple(line) for line in self._tokens[len(queries) :])
        self.distinct = np.array(
            [[numbers.setdefault(line, len(numbers))] for line in document_keys]
        )

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The weights that a state depends on: encoder and decoder, without the output layer."""
        named: dict[str, torch.Tensor] = {}
        for part in ("encoder", "decoder"):
            module = getattr(self._model, f"get_{part}")()
            named |= {f"{part}.{name}": weight for name, weight in module.named_parameters()}
        # Encoder and decoder may share their embedding.
        return {
            name: weight
            for name, weight in named.items()
            if next(first for first, same in named.items() if same is weight) == name
        }

    @property
    def start(self) -> torch.Tensor:
        """The decoder's input before the first code; float32 [width]."""
        config = self._model.config
        # T5 decoding starts with the padding token, and not every configuration says so.
        token = getattr(config, "decoder_start_token_id", None)
        embedding = self._model.get_decoder().get_input_embeddings().weight
        return embedding[config.pad_token_id if token is None else token]

    def read(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the encoder's states and their attention mask."""
        import torch

        lines = [self._tokens[row] for row in rows.tolist()]
        input_ids = torch.zeros((len(lines), max(map(len, lines))), dtype=torch.int64)
        mask = torch.zeros_like(input_ids)
        for place, line in enumerate(lines):
            input_ids[place, : len(line)] = torch.tensor(line)
            mask[place, : len(line)] = 1
        input_ids, mask = input_ids.to(self.device), mask.to(self.device)
        encoded = self._model.get_encoder()(input_ids=input_ids, attention_mask=mask)
        return encoded.last_hidden_state, mask

    def states(
        self, read: Any, codes: torch.Tensor, codebooks: torch.Tensor, levels: int
    ) -> list[torch.Tensor]:
        """Returns the decoder's states; see `Network.states`."""
        import torch

        hidden, mask = read
        inputs = [self.start.expand(len(hidden), -1)]
        inputs += [codebooks[level][codes[:, level]] for level in range(levels - 1)]
        output = self._model.get_decoder()(
            inputs_embeds=torch.stack(inputs, dim=1),
            encoder_hidden_states=hidden,
            encoder_attention_mask=mask,
            use_cache=False,
        )
        return list(output.last_hidden_state.unbind(1))

    def content(self) -> str:
        """Returns a hash of the texts and the name of the checkpoint."""
        content = [self._name, self._tokens, self.owners.tolist()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def train(
    checkpoint: Checkpoint,
    queries: Sequence[str],
    owners: npt.NDArray[np.int64],
    documents: Sequence[str],
    *,
    levels: int,
    size: int,
    options: LearningOptions,
    seed: int,
    folder: Path | None = None,
) -> tuple[dict[str, np.ndarray], Learned]:
    """Trains a model in place, with its codebooks; see `Learner.train`.

    Args:
        checkpoint: The encoder-decoder.
        queries: Texts of the queries.
        owners: The document of each; int64 [queries].
        documents: Texts of the documents.
        levels: Codes of a document.
        size: Codes in a codebook.
        options: Training options.
        seed: Seed of everything random.
        folder: Where work in progress is kept; None to keep nothing.

    Returns:
        What `CodeVectors.of` reads, and the codes of the documents.
    """
    network = Seq2SeqNetwork(checkpoint, queries, owners, documents)
    trainer = CodebookTrainer(network, levels, size, options, seed)
    trainer.run(folder)
    arrays = {
        "codebook": trainer.codebooks.detach().cpu().numpy(),
        "start": network.start.detach().cpu().numpy().copy(),
        "lengths": _lengths_of_states(network, trainer),
    }
    return arrays, Learned(trainer.codes, int(trainer.moved.sum()))


def _lengths_of_states(
    network: Seq2SeqNetwork, trainer: CodebookTrainer
) -> npt.NDArray[np.float32]:
    """Returns the mean norm of the documents' states before each code; [levels]."""
    import torch

    levels = trainer.codes.shape[1]
    codes = torch.from_numpy(trainer.codes).to(network.device)
    first = len(network.owners) - network.documents
    lengths = torch.zeros(levels, device=network.device)
    with torch.no_grad():
        for rows in torch.arange(network.documents).split(network.chunk):
            read = network.read(first + rows)
            states = network.states(read, codes[rows], trainer.codebooks, levels)
            lengths += torch.stack([state.norm(dim=1).sum() for state in states])
    return (lengths / max(network.documents, 1)).cpu().numpy()


@dataclass(frozen=True)
class CodeVectors:
    """The vectors of codes in the model that was trained with them.

    Attributes:
        codebook: The decoder's input for each code; float32 [levels, size, width].
        start: Its input before the first code; float32 [width].
        lengths: Mean norm over the documents of its states before each code; float32 [levels].
    """

    codebook: npt.NDArray[np.float32]
    start: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.float32]

    @classmethod
    def of(cls, extras: Mapping[str, np.ndarray]) -> CodeVectors:
        """Restores the code vectors from the arrays of the identifiers.

        Raises:
            InputError: The arrays do not hold them.
        """
        missing = [name for name in _ARRAYS if name not in extras]
        if missing:
            raise InputError(
                f"the stored identifiers have no codebooks ({missing[0]!r} is missing)",
                hint="Assign them again",
            )
        return cls(*(np.array(extras[name], np.float32) for name in _ARRAYS))

    def refuse_other_width(self, width: int) -> None:
        """Raises InputError if the width of a model's states is not that of the codebooks."""
        if self.codebook.shape[2] != width:
            raise InputError(
                f"the codebooks have {self.codebook.shape[2]} dimensions, but the stored model has "
                f"{width}",
                hint="Assign the identifiers again",
            )

    def outputs(self) -> npt.NDArray[np.float32]:
        """Returns rows whose inner products with states are the logits the codes were trained with.

        Those logits are cosines divided by a temperature; they are exact for a state of mean norm.

        Returns:
            float32 [levels, size, width].
        """
        lengths = np.linalg.norm(self.codebook, axis=2, keepdims=True)
        scale = TEMPERATURE * self.lengths[:, None, None]
        return self.codebook / np.maximum(lengths, 1e-12) / np.maximum(scale, 1e-12)


def encode(
    checkpoint: Checkpoint, extras: Mapping[str, np.ndarray], texts: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Returns the most likely code of each text at each position, given those before it.

    Args:
        checkpoint: The model that was trained with the codes.
        extras: The arrays that `train` returned.
        texts: New documents.

    Returns:
        int64 [texts, levels].

    Raises:
        InputError: The arrays do not belong to this model.
    """
    import torch

    network = Seq2SeqNetwork(checkpoint, [], np.empty(0, np.int64), texts)
    vectors = CodeVectors.of(extras)
    vectors.refuse_other_width(network.width)
    books = torch.from_numpy(vectors.codebook).to(network.device)
    levels = len(books)
    codes = torch.zeros((len(texts), levels), dtype=torch.int64, device=network.device)
    with torch.no_grad():
        for rows in torch.arange(len(texts)).split(network.chunk):
            read = network.read(rows)
            for level in range(levels):
                state = network.states(read, codes[rows], books, level + 1)[level]
                book = torch.nn.functional.normalize(books[level], dim=-1)
                codes[rows, level] = (state @ book.T).argmax(dim=1)
    return codes.cpu().numpy()
