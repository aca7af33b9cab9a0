"""Evaluation during training, on the dev split only, never on test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from dsi.backbones.inference import evaluating, padded
from dsi.search.beam import beam_search

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dsi.search.document_scores import DocumentScores
    from dsi.search.torch_trie import TorchTrie
    from dsi.text_encoders.text_encoder import TextEncoder

_BATCH = 64
_DEPTH = 10


@dataclass(frozen=True)
class DevQueries:
    """Queries, each with one relevant document.

    Attributes:
        tokens: Token ids of each query.
        rows: Table row of the relevant document of each.
        texts: The query texts; empty without a lexical layer.
        lexical: Lexical layer that scores documents for the queries; None for the model alone.
    """

    tokens: Sequence[Sequence[int]]
    rows: Sequence[int]
    texts: Sequence[str] = ()
    lexical: DocumentScores | None = None

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        rows: Sequence[int],
        encoder: TextEncoder,
        length: int,
        lexical: DocumentScores | None = None,
    ) -> DevQueries:
        """Tokenizes queries.

        Args:
            texts: The queries.
            rows: Table row of the relevant document of each.
            encoder: The model's text encoder.
            length: Maximum tokens per query.
            lexical: Lexical layer that scores documents for the queries; None for the model alone.
        """
        return cls(encoder.encode(texts, length), rows, texts, lexical)

    def __len__(self) -> int:
        return len(self.rows)

    def document_scores(
        self, places: npt.NDArray[np.int64], device: torch.device
    ) -> torch.Tensor | None:
        """Returns the lexical scores of some queries; float32 [queries, table rows], or None."""
        if self.lexical is None:
            return None
        return torch.from_numpy(self.lexical.scores([self.texts[at] for at in places])).to(device)


def validate(
    model: PreTrainedModel, queries: DevQueries, trie: TorchTrie, beams: int, score: str = "model"
) -> dict[str, float]:
    """Searches with the current model and returns Success@1, Success@10 and RR@10.

    Args:
        model: The model, switched to evaluation mode for the duration.
        queries: At least one.
        trie: Trie of the identifiers.
        beams: Beam width.
        score: How documents are scored, as in `beam_search`.
    """
    ranks = ranks_of(model, queries, trie, beams, score)
    return {
        "Success@1": float((ranks <= 1).mean()),
        "Success@10": float((ranks <= _DEPTH).mean()),
        "RR@10": float((1 / ranks).mean()),
    }


def ranks_of(
    model: PreTrainedModel, queries: DevQueries, trie: TorchTrie, beams: int, score: str = "model"
) -> npt.NDArray[np.float64]:
    """Searches with the current model and returns the rank of each query's document.

    Args:
        model: The model, switched to evaluation mode for the duration.
        queries: At least one.
        trie: Trie of the identifiers.
        beams: Beam width.
        score: How documents are scored, as in `beam_search`.

    Returns:
        Ranks from 1; infinity if not in the top ten; float64 [queries].
    """
    ranks = np.full(len(queries), np.inf)
    order = np.argsort([len(line) for line in queries.tokens], kind="stable")
    with evaluating(model, torch.no_grad):
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            input_ids, mask = padded([queries.tokens[number] for number in batch])
            rows, _ = beam_search(
                model,
                input_ids.to(trie.device),
                mask.to(trie.device),
                trie,
                k=_DEPTH,
                beams=max(beams, _DEPTH),
                score=score,
                document_scores=queries.document_scores(batch, trie.device),
            )
            targets = np.array([queries.rows[number] for number in batch])
            hit = rows.cpu().numpy() == targets[:, None]
            ranks[batch] = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, np.inf)
    return ranks
