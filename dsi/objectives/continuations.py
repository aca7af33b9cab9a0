"""Trie positions of identifiers, for a loss over the codes that may follow a prefix."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dsi.search.torch_trie import TorchTrie

IGNORED = -100
"""Target of a position past the end of an identifier."""


@dataclass(frozen=True)
class AllowedContinuations:
    """The trie positions of the codes of identifiers.

    Attributes:
        trie: The live identifiers.
        nodes: The node of each code of each table row, -1 past the end of an identifier or for one
            that is not live; int64 [rows, longest].
    """

    trie: TorchTrie
    nodes: torch.Tensor

    @classmethod
    def of(cls, trie: TorchTrie, codes: torch.Tensor) -> AllowedContinuations:
        """Traverses the trie for all identifiers at once.

        Args:
            trie: The live identifiers.
            codes: The codes of every table row, `IGNORED` past the end; int64 [rows, longest].
        """
        nodes = torch.full_like(codes, -1)
        at = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
        for position, branching in enumerate(trie.branching):
            at = trie.step(at, codes[:, position], branching)
            nodes[:, position] = at
        return cls(trie, nodes)

    def to(self, device: torch.device) -> AllowedContinuations:
        """Moves them to a device."""
        return AllowedContinuations(self.trie.to(device), self.nodes.to(device))
