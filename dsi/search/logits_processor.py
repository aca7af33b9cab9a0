"""The trie as a constraint for transformers' own `generate`."""

from __future__ import annotations

import torch
from transformers import LogitsProcessor

from docids.table import END
from dsi.search.torch_trie import TorchTrie


class TrieLogitsProcessor(LogitsProcessor):
    """Allows only the codes that continue an identifier, for all rows at once.

    Equivalent to `prefix_allowed_tokens_fn` with a trie in Python, without its loop over rows: the
    trie node of each row is looked up from its codes so far. After a complete identifier, or after
    codes that start none, only `end` is allowed, so that the sequence ends with any decoding
    method. An allowed code never becomes -inf, so that a model that gives all of them probability 0
    cannot leave the trie.

    Use it with `generate(logits_processor=[TrieLogitsProcessor(trie)], ...)`; `beam_search` is
    faster and never returns a document twice.

    Args:
        trie: The live identifiers, on the model's device.
        prefix: Number of ids before the identifier: 1 in an encoder-decoder, the decoder's start
            token, or 2 if the model forces a first token after it (BART-large, mBART); the length
            of the (left-padded) prompt in a decoder-only model. Until there are that many, scores
            are left unchanged.
        end: The id that ends a sequence: the model's `eos_token_id`.
    """

    def __init__(self, trie: TorchTrie, prefix: int = 1, end: int = END) -> None:
        self.trie = trie
        self.prefix = prefix
        self.end = end

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Sets the scores of all other codes to -inf.

        Args:
            input_ids: The ids before the identifier, and its codes so far; int64 [rows, length].
            scores: Logits or log-probabilities of the next code; floating [rows, alphabet].

        Returns:
            Like `scores`.
        """
        alphabet = scores.shape[1]
        level = input_ids.shape[1] - self.prefix
        if level < 0:  # still in the model's own prefix
            return scores
        allowed, finished = self.allowed(input_ids[:, self.prefix :], alphabet)
        allowed[:, self.end] |= finished
        lowest = torch.finfo(scores.dtype).min
        return torch.where(allowed, scores.clamp_min(lowest), -torch.inf)

    def allowed(self, codes: torch.Tensor, alphabet: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns which codes continue an identifier, and which rows nothing continues.

        Args:
            codes: The codes so far; int64 [rows, length].
            alphabet: Size of the docid alphabet.

        Returns:
            bool [rows, alphabet], and bool [rows]: a complete identifier, or the prefix of none.
        """
        # An extra column absorbs the padding of the lists of children.
        shape = (len(codes), alphabet + 1)
        allowed = torch.zeros(shape, dtype=torch.bool, device=codes.device)
        nodes, level = self._nodes(codes), codes.shape[1]
        finished = torch.ones_like(nodes, dtype=torch.bool)
        if level < self.trie.depth:
            children, exist = self.trie.children(nodes.clamp_min(0), self.trie.branching[level])
            exist &= (nodes >= 0).unsqueeze(1)
            following = self.trie.code[children].long().masked_fill(~exist, alphabet)
            allowed.scatter_(1, following, True)
            finished = ~exist.any(dim=1)
        return allowed[:, :alphabet], finished

    def _nodes(self, codes: torch.Tensor) -> torch.Tensor:
        """Returns the node that each row's codes [rows, length] lead to, -1 if none."""
        nodes = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
        for level in range(codes.shape[1]):
            if level == self.trie.depth:
                return torch.full_like(nodes, -1)
            nodes = self.trie.step(nodes, codes[:, level], self.trie.branching[level])
        return nodes
