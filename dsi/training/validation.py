"""How well the model ranks during training: measured on the dev split, never on test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from dsi.inference import evaluating, padded
from dsi.search.beam import beam_search

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dsi.search.document_scores import DocumentScores
    from dsi.search.torch_trie import TorchTrie
    from dsi.text_encoder import TextEncoder

_BATCH = 64
_DEPTH = 10


@dataclass(frozen=True)
class DevQueries:
    """Queries with the one document each must find.

    Attributes:
        tokens: Token ids of each query.
        rows: Table row of its relevant document.
        texts: The queries as they are asked; none without a lexical layer.
        lexical: Scores documents for them; None for the model alone.
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
        """Encodes queries.

        Args:
            texts: The queries.
            rows: Table row of the relevant document of each.
            encoder: Of the model.
            length: Most tokens of a query.
            lexical: Scores documents for them; None for the model alone.
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
    """Searches with the model as it is and returns Success@1, Success@10 and RR@10.

    Args:
        model: Put into evaluation mode meanwhile.
        queries: At least one.
        trie: The identifiers.
        beams: Width of the beam search.
        score: What a document's score is, as in `beam_search`.
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
    """Searches with the model as it is and returns the rank of each query's document.

    Args:
        model: Put into evaluation mode meanwhile.
        queries: At least one.
        trie: The identifiers.
        beams: Width of the beam search.
        score: What a document's score is, as in `beam_search`.

    Returns:
        From 1; infinite where it is not among the first ten; float64 [queries].
    """
    ranks = np.full(len(queries), np.inf)
    order = np.argsort([len(line) for line in queries.tokens], kind="stable")
    with evaluating(model):
        for start in range(0, len(order), _BATCH):
            picked = order[start : start + _BATCH]
            input_ids, mask = padded([queries.tokens[number] for number in picked])
            found, _ = beam_search(
                model,
                input_ids.to(trie.device),
                mask.to(trie.device),
                trie,
                k=_DEPTH,
                beams=max(beams, _DEPTH),
                score=score,
                document_scores=queries.document_scores(picked, trie.device),
            )
            wanted = np.array([queries.rows[number] for number in picked])
            hit = found.cpu().numpy() == wanted[:, None]
            ranks[picked] = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, np.inf)
    return ranks
