"""The identifiers of an export, and the constraint that keeps `generate` to them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import LogitsProcessor

from data_prep.errors import InputError
from data_prep.files import read_json
from docids.table import END, DocidTable
from docids.trie import Trie
from dsi.export.base import IDS, NAMES, SETTINGS
from dsi.search.logits_processor import TrieLogitsProcessor
from dsi.search.torch_trie import TorchTrie


class Exported:
    """What `dsi export --format hf` wrote, beside the model and its tokenizer.

    Args:
        identifiers: Token ids of each document's identifier, -1 behind its end; int32 [documents,
            longest].
        doc_ids: Of the documents.
        settings: How to read both.
    """

    def __init__(
        self, identifiers: npt.NDArray[np.int32], doc_ids: Sequence[str], settings: dict[str, Any]
    ) -> None:
        self.identifiers = identifiers
        self.doc_ids = doc_ids
        self.settings = settings
        self.first, self.alphabet = int(settings["first_code"]), int(settings["codes"])
        self._rows = {
            tuple(token for token in line if token >= 0): row
            for row, line in enumerate(identifiers.tolist())
        }
        self._trie: TorchTrie | None = None

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Exported:
        """Opens the folder of an export.

        Raises:
            InputError: It is none, or not one of the format hf.
        """
        folder = Path(folder)
        settings = read_json(folder / SETTINGS)
        if not isinstance(settings, dict) or settings.get("format") not in ("hf", "vllm-gr"):
            raise InputError(
                "this folder is not an export for generate",
                where=folder,
                hint="Write one with dsi export INDEX OUT --format hf",
            )
        identifiers = np.load(folder / IDS, allow_pickle=False)
        return cls(identifiers, read_json(folder / NAMES), settings)

    def prompts(self, queries: Sequence[str]) -> list[str]:
        """Returns what a language model reads of queries; an encoder-decoder reads them as is."""
        prompt = self.settings["prompt"]
        return [query if prompt is None else prompt.replace("{query}", query) for query in queries]

    @property
    def options(self) -> dict[str, Any]:
        """Options of `generate` that disable everything but the model's scores."""
        return {
            "max_new_tokens": self.identifiers.shape[1] + 1,
            "do_sample": False,
            "length_penalty": 0.0,
            "early_stopping": "never",
        }

    def processor(self, inputs: Any) -> DocidLogitsProcessor:
        """Returns the constraint for `generate(**inputs)`; a new one for inputs of another length.

        Args:
            inputs: What the tokenizer has returned for queries.
        """
        ids = inputs["input_ids"]
        prefix = 1 if self.settings["prompt"] is None else ids.shape[1]
        if self._trie is None or self._trie.device != ids.device:
            table = DocidTable.from_sequences(
                list(self.doc_ids),
                [tuple(token - self.first for token in each) for each in self._rows],
                alphabet_size=self.alphabet,
                kind="export",
            )
            self._trie = TorchTrie.from_trie(Trie.build(table), ids.device)
        constrained = self.settings["score"] == "constrained"
        return DocidLogitsProcessor(
            self._trie, prefix, self.first, self.alphabet, constrained=constrained
        )

    def documents(self, sequences: torch.Tensor, inputs: Any) -> list[str | None]:
        """Returns the document that each generated sequence names; None for none."""
        prefix = 1 if self.settings["prompt"] is None else inputs["input_ids"].shape[1]
        end = self.first + END
        doc_ids = []
        for line in sequences[:, prefix:].tolist():
            codes = line[: line.index(end)] if end in line else line
            # Some identifiers have an end of their own; of others it is not a part.
            row = self._rows.get((*codes, end), self._rows.get(tuple(codes)))
            doc_ids.append(None if row is None else self.doc_ids[row])
        return doc_ids


class DocidLogitsProcessor(LogitsProcessor):
    """Scores codes alone, and allows those that continue an identifier.

    A vocabulary of words and codes spreads probability over both; here it is spread over codes, as
    in training, or over those that may follow. What ends a whole identifier costs nothing.

    Args:
        trie: Over codes, on the model's device.
        prefix: How many ids stand before the identifier.
        first: The id of code 0.
        alphabet: How many codes there are.
        constrained: Whether scores are over the codes that may follow.
    """

    def __init__(
        self, trie: TorchTrie, prefix: int, first: int, alphabet: int, *, constrained: bool = False
    ) -> None:
        self._trie = TrieLogitsProcessor(trie)
        self._prefix = prefix
        self._codes = slice(first, first + alphabet)
        self._constrained = constrained

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Returns the log-probabilities of the codes, -inf for all else; see `generate`.

        Args:
            input_ids: What stands before the identifier, and its codes so far; int64 [rows,
                length].
            scores: Logits or log-probabilities of the next id; floating [rows, vocabulary].
        """
        codes = input_ids[:, self._prefix :] - self._codes.start
        code_scores = scores[:, self._codes].float()
        # Codes of a sequence that has ended lie outside of the alphabet, and continue nothing.
        allowed, finished = self._trie.allowed(codes, code_scores.shape[1])
        if self._constrained:
            code_scores = code_scores.masked_fill(~allowed, -torch.inf)
            code_scores = code_scores.masked_fill(finished.unsqueeze(1), 0.0)
        logs = code_scores.log_softmax(-1).clamp_min(torch.finfo(scores.dtype).min)
        constrained = torch.full_like(scores, -torch.inf)
        constrained[:, self._codes] = logs.to(scores.dtype).masked_fill(~allowed, -torch.inf)
        constrained[finished, self._codes.start + END] = 0.0
        return constrained
