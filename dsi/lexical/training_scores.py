"""Adds lexical scores to the logits of the network in training.

With one code per document, the loss is computed on the sum of both, so that the network learns what
the words of a query do not already predict. The lexical layer itself stays fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from dsi.lexical.layer import LexicalLayer, QueryTerms


@dataclass(frozen=True)
class ExampleScores:
    """Scores of all documents for training examples.

    Attributes:
        layer: The lexical layer.
        terms: Terms of every example, in the order of the example numbers; examples that are not
            queries have none.
        codes: The code of each document; int64 [documents].
    """

    layer: LexicalLayer
    terms: QueryTerms
    codes: torch.Tensor

    @classmethod
    def of(
        cls, layer: LexicalLayer, texts: Sequence[str], codes: npt.NDArray[np.int64]
    ) -> ExampleScores:
        """Splits the texts of all examples.

        Args:
            layer: The lexical layer.
            texts: Texts of the examples; empty for one that is not a query.
            codes: The code of each document; int64 [documents].
        """
        return cls(layer, layer.terms(texts), torch.from_numpy(codes))

    def added(self, logits: torch.Tensor, numbers: npt.NDArray[np.int64]) -> torch.Tensor:
        """Adds the lexical score of each document to the logit of its code.

        Args:
            logits: [examples, 1, alphabet].
            numbers: Numbers of the examples; int64 [examples].

        Returns:
            float32 [examples, 1, alphabet].
        """
        scores = torch.from_numpy(self.layer.scores_of(self.terms.of(numbers))).to(logits.device)
        codes = self.codes.to(logits.device)
        return logits.float().index_add(2, codes, scores.unsqueeze(1))
