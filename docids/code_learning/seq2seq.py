"""Codes that are trained together with an encoder-decoder such as T5, as GenRet does it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from docids.code_learning.course import Course
from docids.code_learning.learner import Learned
from docids.code_learning.options import LearningOptions

if TYPE_CHECKING:
    import torch

TOKENS = 128
"""Tokens of a text that are read."""
_PREFIX = "model."
"""What the names of the model's weights begin with among the arrays of the identifiers."""


class Seq2SeqNetwork:
    """An encoder-decoder: the state before a code is what its decoder makes of the codes so far.

    The decoder reads its start token, and for each code the code's own vector. Dropout is off, so
    that a learning that was interrupted ends as one that was not.

    Args:
        name: Hub id or path of the checkpoint.
        queries: Texts of the queries.
        owners: The document of each; int64 [queries].
        documents: Texts of the documents.

    Raises:
        InputError: The checkpoint is not to be had.
    """

    chunk = 64

    def __init__(
        self,
        name: str,
        queries: Sequence[str],
        owners: npt.NDArray[np.int64],
        documents: Sequence[str],
    ) -> None:
        import torch
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            model: Any = AutoModelForSeq2SeqLM.from_pretrained(
                name, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError) as error:
            raise InputError(
                f"no encoder-decoder {name!r} ({str(error).splitlines()[0]})",
                where="--learned.model",
                mend="Give a hub id, or the folder of a downloaded model",
            ) from None
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.eval().to(self.device)
        self._name = name
        self.documents = len(documents)
        self.width = self._model.get_decoder().get_input_embeddings().weight.shape[1]
        self._tokens = [
            self._tokenizer(text, truncation=True, max_length=TOKENS)["input_ids"] or [0]
            for text in (*queries, *documents)
        ]
        self.owners = torch.from_numpy(np.concatenate([owners, np.arange(len(documents))]))
        numbers: dict[tuple[int, ...], int] = {}
        own = (tuple(line) for line in self._tokens[len(queries) :])
        self.distinct = np.array([[numbers.setdefault(line, len(numbers))] for line in own])

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The weights that a state depends on: encoder and decoder, without the output layer."""
        found: dict[str, torch.Tensor] = {}
        for part in ("encoder", "decoder"):
            module = getattr(self._model, f"get_{part}")()
            found |= {f"{part}.{name}": weight for name, weight in module.named_parameters()}
        # Encoder and decoder may share their embedding.
        return {
            name: weight
            for name, weight in found.items()
            if next(first for first, same in found.items() if same is weight) == name
        }

    def read(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the encoder's states, and which of them are of tokens."""
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
        decoder = self._model.get_decoder()
        first = decoder.get_input_embeddings().weight[self._model.config.decoder_start_token_id]
        inputs = [first.expand(len(hidden), -1)]
        inputs += [codebooks[level][codes[:, level]] for level in range(levels - 1)]
        output = decoder(
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
    network: Seq2SeqNetwork,
    *,
    levels: int,
    size: int,
    options: LearningOptions,
    seed: int,
    folder: Any = None,
) -> tuple[dict[str, np.ndarray], Learned]:
    """Trains a model and its codebooks; see `Learner.train`.

    Returns:
        Codebooks and weights as arrays of the identifiers, and the codes of the documents.
    """
    course = Course(network, levels, size, options, seed)
    course.run(folder)
    arrays = {
        f"{_PREFIX}{name}": weight.detach().float().cpu().numpy()
        for name, weight in network.weights.items()
    }
    arrays["codebook"] = course.codebooks.detach().cpu().numpy()
    return arrays, Learned(course.codes, int(course.moved.sum()))


def encode(
    name: str, extras: Mapping[str, np.ndarray], texts: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Returns the likeliest code of each text at each position after those before it.

    Args:
        name: The checkpoint that the model started from, for its tokenizer and shape.
        extras: The arrays that `train` returned.
        texts: New documents.

    Returns:
        int64 [texts, levels].

    Raises:
        InputError: The checkpoint is not to be had any more, or the arrays are not of it.
    """
    import torch

    network = Seq2SeqNetwork(name, [], np.empty(0, np.int64), texts)
    with torch.no_grad():
        for key, weight in network.weights.items():
            kept = extras.get(f"{_PREFIX}{key}")
            if kept is None or kept.shape != tuple(weight.shape):
                raise InputError(
                    f"the identifiers lack their network ({key!r} is missing or of another shape)",
                    mend="Assign them again",
                )
            weight.copy_(torch.from_numpy(np.array(kept)))
        books = torch.from_numpy(np.array(extras["codebook"])).to(network.device)
        levels = len(books)
        codes = torch.zeros((len(texts), levels), dtype=torch.int64, device=network.device)
        for rows in torch.arange(len(texts)).split(network.chunk):
            read = network.read(rows)
            for level in range(levels):
                state = network.states(read, codes[rows], books, level + 1)[level]
                book = torch.nn.functional.normalize(books[level], dim=-1)
                codes[rows, level] = (state @ book.T).argmax(dim=1)
    return codes.cpu().numpy()
