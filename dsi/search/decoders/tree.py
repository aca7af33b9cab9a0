"""A decoding step in which all beams of a query are rows of one tree.

The beams of a query share their encoded query and their prefixes. So the keys and values of the
cross-attention are stored once per query, and those of the self-attention once per node of the
search tree: nothing is copied when beams are reordered. A mask lets each row attend to the nodes on
its own path.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from docids.table import PAD
from dsi.backbones.position_edits import rows_at
from dsi.kernels.matmul import linear
from dsi.kernels.packed_linear import rounded_head
from dsi.kernels.scripting import scripted
from dsi.search.decoders.base import log_probabilities_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FEW = 256
"""Rounded logits are used for all but the requested codes if at most one code in this many is
requested. The exact ones of a few are read row by row, which takes longer than a product with whole
weights."""


class TreeDecoder(ABC):
    """The common part of all families: the tree and the output layer.

    Args:
        model: A network of the family.
        queries: Number of queries decoded together.
        device: Device of the computation.
    """

    begins = 2

    def __init__(self, model: PreTrainedModel, queries: int, device: torch.device) -> None:
        self._model: Any = model
        self._queries = queries
        self._own: list[torch.Tensor] = []
        """Keys and values of the nodes so far, for each layer, with room for more behind them;
        [2, queries, heads, nodes and room, size]."""
        self._depths = torch.zeros(0, dtype=torch.int64, device=device)
        """The depth of each node; [nodes]."""
        self._paths = torch.zeros((0, 0, 0), dtype=torch.bool, device=device)
        """Which nodes the last rows see; [queries, rows, nodes]."""
        self._depth = 0

    @classmethod
    @abstractmethod
    def knows(cls, model: PreTrainedModel) -> bool:
        """Whether this is a model of the family in which no part has been replaced."""

    @classmethod
    @abstractmethod
    def start(
        cls, model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> TreeDecoder:
        """Reads queries; see `start_decoder`."""

    @abstractmethod
    def _forward(
        self, codes: torch.Tensor, depths: torch.Tensor, visible: torch.Tensor
    ) -> torch.Tensor:
        """Runs all layers; `_enter` stores their keys and values.

        Args:
            codes: int64 [queries, rows].
            depths: The depth of each row; int64 [rows].
            visible: Which nodes each row attends to; bool [queries or 1, rows, nodes].

        Returns:
            The input of the output layer; [queries, rows, width].
        """

    @abstractmethod
    def _head(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns the weight and the bias of the output layer."""

    def _run(
        self, codes: torch.Tensor, depths: torch.Tensor, visible: torch.Tensor
    ) -> torch.Tensor:
        """As `_forward`; edited layers know the depth of each row."""
        with rows_at(depths):
            return self._forward(codes, depths, visible)

    def step(self, codes: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """See `Decoder.step`."""
        rows = codes.shape[1]
        diagonal = torch.eye(rows, dtype=torch.bool, device=codes.device)
        depths = self._depths.new_full((rows,), self._depth)
        self._paths = self._visible(diagonal.expand(len(codes), -1, -1), parents)
        self._depths = torch.cat([self._depths, depths])
        self._depth += 1
        return self._run(codes, depths, self._paths)

    def begin(self, codes: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """See `Decoder.begin`."""
        own = torch.eye(1 + len(codes), dtype=torch.bool, device=codes.device)
        above = torch.cat([parents.new_zeros(1), parents])
        paths = own
        for _ in range(self.begins):
            paths = own | paths[above]
        depths = paths.sum(1) - 1
        self._paths = paths.expand(self._queries, -1, -1)
        self._depths, self._depth = depths, int(depths[-1]) + 1
        codes = torch.cat([codes.new_full((1,), PAD), codes])
        return self._run(codes.expand(self._queries, -1), depths, self._paths)

    def tails(self, codes: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """See `Decoder.tails`.

        Rows are independent of one another, so each attends to its own path only, without a mask
        over all nodes.
        """
        queries, rows, length = codes.shape
        paths = self._visible_nodes(parents).nonzero()[:, 2].view(queries, rows, self._depth)
        once = copy.copy(self)
        once._own = [_cache_of_paths(layer, paths, length) for layer in self._own]
        once._depths = torch.arange(self._depth + length, device=codes.device)
        depths = once._depths[self._depth :]
        visible = (once._depths <= depths.unsqueeze(1)).unsqueeze(0)
        states = once._run(codes.flatten(0, 1), depths, visible)
        return states.view(queries, rows, length, -1)

    def _visible(self, own: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """Returns which nodes rows attend to: those of their parents, and some of the new ones.

        Args:
            own: Which of the new nodes are the rows themselves; bool [queries, rows, rows].
            parents: int64 [queries, rows].
        """
        if not self._depth:
            return own
        return torch.cat([self._visible_nodes(parents), own], dim=2)

    def _visible_nodes(self, parents: torch.Tensor) -> torch.Tensor:
        """Returns which nodes the rows of the last step see; bool [queries, parents, nodes]."""
        places = parents.unsqueeze(-1).expand(-1, -1, self._paths.shape[2])
        return self._paths.gather(1, places)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """See `Decoder.logits`."""
        return linear(states, *self._head())

    def logits_at(self, states: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """See `Decoder.logits_at`."""
        weight, bias = self._head()
        if codes.shape[-1] * 8 > len(weight):
            return linear(states, weight, bias).gather(-1, codes)
        logits = torch.matmul(functional.embedding(codes, weight), states.unsqueeze(-1)).squeeze(-1)
        return logits if bias is None else logits + bias[codes]

    def log_probabilities(self, states: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """See `Decoder.log_probabilities`.

        Even with a rounded output layer (`packed`), the logits of the requested codes are exact if
        those are few. The rounding errors of the others average out in their sum.
        """
        rounded = rounded_head(self._model)
        if rounded is None or codes.shape[-1] * _FEW > rounded.out_features:
            return log_probabilities_of(self.logits(states), codes)
        logits = rounded(states)
        bias = self._head()[1]
        if bias is not None:
            logits += bias
        exact = self.logits_at(states, codes)
        return log_probabilities_of(logits.scatter_(-1, codes, exact), codes)

    def take(self, queries: torch.Tensor) -> TreeDecoder:
        """See `Decoder.take`."""
        other = copy.copy(self)
        other._queries = len(queries)
        nodes = len(self._depths)
        other._own = [layer[:, :, :, :nodes].index_select(1, queries) for layer in self._own]
        other._paths = self._paths[queries]
        return other

    def _enter(
        self, place: int, entering: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds the rows of a step as nodes; returns the keys and values of all nodes.

        Args:
            place: Index of the layer, from 0.
            entering: Keys and values of the rows; [2, queries, heads, rows, size].
            dtype: Dtype of the stored ones.

        Returns:
            [queries, heads, nodes, size] each.
        """
        nodes, rows = len(self._depths), entering.shape[3]
        cache = self._cache(place, entering.shape, dtype)
        cache.narrow(3, nodes - rows, rows).copy_(entering)
        key, value = cache.narrow(3, 0, nodes).unbind()
        return key, value

    def _cache(self, place: int, entering: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Returns the keys and values of a layer's nodes, with room for the rows of this step.

        Args:
            place: Index of the layer, from 0.
            entering: Shape of the keys and values of the rows: 2, queries, heads, rows, size.
            dtype: Dtype of the stored ones.

        Returns:
            [2, queries, heads, nodes and room, size].
        """
        nodes = len(self._depths)
        if place == len(self._own):
            shape = (*entering[:3], nodes, entering[4])
            self._own.append(torch.empty(shape, dtype=dtype, device=self._depths.device))
        elif self._own[place].shape[3] < nodes:
            before = self._own[place][:, :, :, : nodes - entering[3]]
            self._own[place] = _with_room(before, 2 * nodes)
        return self._own[place]


class EncodedTreeDecoder(TreeDecoder):
    """The decoder of an encoder-decoder: its layers also attend to the encoded query.

    Args:
        model: An encoder-decoder of the family.
        hidden: The encoded queries; [queries, length, width].
        attention_mask: 1 at tokens, 0 at padding; [queries, length].
    """

    def __init__(
        self, model: PreTrainedModel, hidden: torch.Tensor, attention_mask: torch.Tensor
    ) -> None:
        super().__init__(model, len(hidden), hidden.device)
        self._layers = self.layers(model)
        self._cross = [self._cross_keys_values(layer, hidden) for layer in self._layers]
        padding = (attention_mask == 0)[:, None, None, :]
        self._cross_mask = torch.zeros(padding.shape, dtype=hidden.dtype, device=hidden.device)
        self._cross_mask.masked_fill_(padding, torch.finfo(hidden.dtype).min)

    @staticmethod
    @abstractmethod
    def layers(model: PreTrainedModel) -> list[Any]:
        """Returns the layers of the decoder."""

    @abstractmethod
    def _cross_keys_values(
        self, layer: Any, hidden: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the keys and values of the queries; [queries, heads, length, size] each."""

    @classmethod
    def start(
        cls, model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> EncodedTreeDecoder:
        """Encodes queries; see `start_decoder`."""
        return cls(model, cls.encode(model, input_ids, attention_mask), attention_mask)

    @classmethod
    def encode(
        cls, model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """Returns encoded queries; [queries, length, width]."""
        encoded = model.get_encoder()(input_ids=input_ids, attention_mask=attention_mask)
        return encoded.last_hidden_state

    def take(self, queries: torch.Tensor) -> EncodedTreeDecoder:
        """See `Decoder.take`."""
        other = super().take(queries)
        assert isinstance(other, EncodedTreeDecoder)
        other._cross = [(key[queries], value[queries]) for key, value in self._cross]
        other._cross_mask = self._cross_mask[queries]
        return other

    def _attend_nodes(
        self,
        place: int,
        query: torch.Tensor,
        key_value: torch.Tensor,
        mask: torch.Tensor,
        scale: float,
        heads: int,
    ) -> torch.Tensor:
        """Self-attention of one layer: adds the rows as nodes and attends to the visible ones.

        Args:
            place: Index of the layer, from 0.
            query: [queries, rows, heads * size].
            key_value: Keys of the rows themselves, followed by their values; floating [queries,
                rows, 2 * heads * size].
            mask: Added to the scores; [queries or 1, heads or 1, rows, nodes].
            scale: Scale of the scores before that.
            heads: Number of heads.

        Returns:
            [queries, rows, heads * size].
        """
        entering = key_value.unflatten(2, (2, heads, -1)).permute(2, 0, 3, 1, 4)
        key, value = self._enter(place, entering, query.dtype)
        return scripted(_attention)(query, key, value, mask, scale, heads)

    def _attend_query(
        self, place: int, query: torch.Tensor, scale: float, heads: int
    ) -> torch.Tensor:
        """Cross-attention of one layer; [queries, rows, heads * size] in and out.

        Each query may have several consecutive lines of rows.
        """
        together = query.reshape(len(self._cross_mask), -1, query.shape[2])
        key, value = self._cross[place]
        attended = scripted(_attention)(together, key, value, self._cross_mask, scale, heads)
        return attended.view(query.shape)


def _cache_of_paths(cache: torch.Tensor, paths: torch.Tensor, room: int) -> torch.Tensor:
    """Returns the keys and values of paths, one line per path.

    Args:
        cache: [2, queries, heads, nodes and room, size].
        paths: The nodes of each path; int64 [queries, rows, depth].
        room: Number of nodes to allocate in addition.

    Returns:
        [2, queries * rows, heads, depth + room, size].
    """
    query = torch.arange(len(paths), device=paths.device).view(-1, 1, 1)
    states = cache.transpose(2, 3)[:, query, paths].flatten(1, 2).transpose(2, 3)
    return _with_room(states, paths.shape[2] + room)


def _with_room(cache: torch.Tensor, nodes: int) -> torch.Tensor:
    """Returns keys and values [2, queries, heads, nodes so far, size] with room for `nodes`."""
    wider = cache.new_empty((*cache.shape[:3], nodes, cache.shape[4]))
    wider[:, :, :, : cache.shape[3]] = cache
    return wider


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scale: float,
    heads: int,
) -> torch.Tensor:
    """Attention of rows.

    Args:
        query: [queries, rows, heads * size].
        key: [queries, heads, nodes, size].
        value: [queries, heads, nodes, size].
        mask: Added to the scores.
        scale: Scale of the scores before that.
        heads: Number of heads.

    Returns:
        [queries, rows, heads * size].
    """
    split = query.view(query.shape[0], query.shape[1], heads, -1).transpose(1, 2)
    mask = mask.to(query.dtype)  # differs under autocast
    attended = functional.scaled_dot_product_attention(split, key, value, mask, scale=scale)
    return attended.transpose(1, 2).flatten(2)
