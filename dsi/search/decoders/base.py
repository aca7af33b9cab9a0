"""The decoder interface of beam search."""

from __future__ import annotations

from typing import Protocol

import torch


class Decoder(Protocol):
    """Queries being decoded, with the state of all steps so far.

    A row is a beam of a query. The rows of a step continue rows of the previous step.

    Attributes:
        begins: How many levels of codes `begin` can read; 0 if it cannot be called.
    """

    begins: int

    def begin(self, codes: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """Reads PAD and, in further rows, codes after it: several steps in one.

        The rows of this step are those of PAD and of the codes, in this order.

        Args:
            codes: int64 [codes].
            parents: Row that each code continues, 0 for PAD; an earlier one; int64 [codes].

        Returns:
            The states after PAD and after each code; [queries, 1 + codes, width].
        """
        ...

    def step(self, codes: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """Reads one more code in each row.

        Args:
            codes: int64 [queries, rows].
            parents: Row of the previous step that each row continues; int64 [queries, rows].
                Ignored in the first step.

        Returns:
            The states from which `logits` computes the scores of the next codes; [queries, rows,
            width].
        """
        ...

    def tails(self, codes: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """Reads several codes in each row at once; no step can follow.

        Args:
            codes: int64 [queries, rows, length].
            parents: As in `step`.

        Returns:
            The states after each of the codes; [queries, rows, length, width].
        """
        ...

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Returns the scores of the next codes after some states; floating [..., alphabet]."""
        ...

    def logits_at(self, states: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Returns the scores of some codes only.

        Args:
            states: [queries, rows, width].
            codes: int64 [queries, rows, codes].

        Returns:
            Floating [queries, rows, codes].
        """
        ...

    def log_probabilities(self, states: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Returns the log-probabilities of some codes among the whole alphabet.

        Args:
            states: [..., width].
            codes: int64 [..., codes].

        Returns:
            float32 [..., codes].
        """
        ...

    def take(self, queries: torch.Tensor) -> Decoder:
        """Returns a decoder for some of the queries, given by index; int64 [taken]."""
        ...


def log_probabilities_of(logits: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Returns the log-probabilities of some codes.

    Args:
        logits: Logits of the whole alphabet; floating [..., alphabet].
        codes: int64 [..., codes].

    Returns:
        float32 [..., codes].
    """
    # Several times faster than the normalizer alone with `logsumexp`.
    return logits.float().log_softmax(-1).gather(-1, codes)
