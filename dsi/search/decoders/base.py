"""What a beam search asks of a decoder."""

from __future__ import annotations

from typing import Protocol

import torch


class Decoder(Protocol):
    """Queries that are being decoded, with all that is remembered of the steps so far.

    A row is a beam of a query. The rows of a step continue rows of the step before it.

    Attributes:
        begins: Whether `begin` can be called.
    """

    begins: bool

    def begin(self, codes: torch.Tensor) -> torch.Tensor:
        """Reads PAD and, in each of several rows, one code after it: two steps as one.

        The rows of this step are PAD's and those of the codes, in this order.

        Args:
            codes: int64 [codes].

        Returns:
            What stands after PAD and after each code; [queries, 1 + codes, width].
        """
        ...

    def step(self, codes: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """Reads one more code in each row.

        Args:
            codes: int64 [queries, rows].
            parents: Which row of the step before each row continues; int64 [queries, rows].
                Nothing is read from it in the first step, whose rows continue nothing.

        Returns:
            What `logits` makes the scores of the next codes from; [queries, rows, width].
        """
        ...

    def tails(self, codes: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """Reads several codes in each row at once; nothing can follow.

        Args:
            codes: int64 [queries, rows, length].
            parents: As in `step`.

        Returns:
            What stands after each of the codes; [queries, rows, length, width].
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
        """Returns a decoder of some of the queries, given by their places; int64 [taken]."""
        ...


def log_probabilities_of(logits: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Returns the log-probabilities of some codes.

    Args:
        logits: Of the whole alphabet; floating [..., alphabet].
        codes: int64 [..., codes].

    Returns:
        float32 [..., codes].
    """
    # Several times as fast as the normalizer alone by `logsumexp`.
    return logits.float().log_softmax(-1).gather(-1, codes)
