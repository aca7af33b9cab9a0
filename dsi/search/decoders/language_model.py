"""The decoder of a decoder-only language model: all beams of a query share its prompt.

Keys and values of the prompt are computed and stored once per query, those of codes once per node
of the search tree (context and beam KV in NVIDIA's SID-GR). The layers are the model's own,
whatever its family; only the keys and values for their attention are kept here
(`dsi.backbones.custom_attention`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from dsi.backbones.custom_attention import attended, capped, handling_attention
from dsi.backbones.position_edits import rows_at
from dsi.kernels.packed_linear import plain
from dsi.search.decoders.base import log_probabilities_of
from dsi.search.decoders.tree import TreeDecoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LanguageModelDecoder(TreeDecoder):
    """A prompt for each query, followed by a tree of codes.

    Args:
        model: A language model with codes.
        attention_mask: 1 at the tokens of the prompts, 0 at padding; [queries, length].
    """

    def __init__(self, model: PreTrainedModel, attention_mask: torch.Tensor) -> None:
        super().__init__(model, len(attention_mask), attention_mask.device)
        self._there = attention_mask != 0
        """Where the prompts have tokens; bool [queries, length]."""
        self._prompts: list[tuple[torch.Tensor, torch.Tensor]] = []
        """Keys and values of the prompts, for each layer; [queries, key heads, length, size]."""

    @classmethod
    def knows(cls, model: PreTrainedModel) -> bool:
        """See `TreeDecoder.knows`: any language model, whatever wraps its layers."""
        return type(model).__name__ == "PromptedLanguageModel"  # slow to import

    @classmethod
    def start(
        cls, model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> LanguageModelDecoder:
        """Reads prompts; see `start_decoder`."""
        decoder = cls(model, attention_mask)
        prompts = model.get_encoder()(input_ids).last_hidden_state
        before = torch.full((prompts.shape[1],), -1, device=prompts.device)
        with handling_attention(_Prompts(decoder._prompts)), rows_at(before):
            decoder._network(
                inputs_embeds=prompts,
                attention_mask=attention_mask,
                position_ids=decoder._positions,
                use_cache=False,
            )
        return decoder

    @property
    def _network(self) -> torch.nn.Module:
        return self._model.get_decoder().language_model

    @property
    def _positions(self) -> torch.Tensor:
        """The position of each token of the prompts; int64 [queries, length]."""
        return (self._there.long().cumsum(1) - 1).clamp_min(0)

    def take(self, queries: torch.Tensor) -> LanguageModelDecoder:
        """See `Decoder.take`."""
        other = super().take(queries)
        assert isinstance(other, LanguageModelDecoder)
        other._there = self._there[queries]
        other._prompts = [(key[queries], value[queries]) for key, value in self._prompts]
        return other

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """See `Decoder.logits`."""
        head = self._model.get_output_embeddings()
        scores = super().logits(states) if plain(head) else head(states)
        return self._model.capped(scores)

    def logits_at(self, states: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """See `Decoder.logits_at`."""
        if not plain(self._model.get_output_embeddings()):
            return self.logits(states).gather(-1, codes)
        return self._model.capped(super().logits_at(states, codes))

    def log_probabilities(self, states: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """See `Decoder.log_probabilities`."""
        if self._model.softcap is None:
            return super().log_probabilities(states, codes)
        return log_probabilities_of(self.logits(states), codes)

    def _head(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self._model.lm_head.weight, None

    def _forward(
        self, codes: torch.Tensor, depths: torch.Tensor, visible: torch.Tensor
    ) -> torch.Tensor:
        lengths = self._there.sum(1).repeat_interleave(len(codes) // self._queries)
        embedded = self._model.get_decoder().embed_tokens(codes)
        with handling_attention(_Tree(self, depths, visible)):
            outputs = self._network(
                inputs_embeds=embedded,
                position_ids=lengths.unsqueeze(1) + depths,
                use_cache=False,
            )
        return outputs.last_hidden_state


class _Prompts:
    """Keeps the keys and values of prompts.

    Args:
        cache: Storage for those of each layer.
    """

    def __init__(self, cache: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self._cache = cache

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        *,
        scale: float,
        softcap: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """See `AttentionHandler.attend`."""
        assert layer == len(self._cache)
        self._cache.append((key, value))
        return attended(query, key, value, mask, scale, softcap)


class _Tree:
    """Lets the rows of a step attend to their prompts and the nodes on their paths.

    Args:
        decoder: The decoder that runs the step.
        depths: As in `TreeDecoder._forward`, like `visible`.
        visible: bool [lines or 1, rows, nodes].
    """

    def __init__(
        self, decoder: LanguageModelDecoder, depths: torch.Tensor, visible: torch.Tensor
    ) -> None:
        self._decoder = decoder
        self._depths = depths
        self._visible = visible
        self._masks: dict[int | None, torch.Tensor] = {}

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        *,
        scale: float,
        softcap: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """See `AttentionHandler.attend`; a query may have several consecutive lines of rows."""
        key, value = self._decoder._enter(layer, torch.stack([key, value]), query.dtype)
        prompt_key, prompt_value = self._decoder._prompts[layer]
        lines, heads, rows, size = query.shape
        groups = key.shape[1]
        grouped = query.reshape(lines, groups, -1, size)
        together = _of_queries(grouped, len(prompt_key))
        prompts = torch.matmul(together, prompt_key.transpose(2, 3))
        scores = torch.cat(
            [_of_lines(prompts, lines), torch.matmul(grouped, key.transpose(2, 3))], dim=-1
        )
        scores = capped(scores * scale, softcap).view(lines, heads, rows, -1)
        scores = scores + self._mask(window, lines).to(scores.dtype)
        shares = scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype)
        of_prompts, of_nodes = shares.view(lines, groups, heads // groups * rows, -1).split(
            [prompt_key.shape[2], key.shape[2]], dim=-1
        )
        seen = torch.matmul(_of_queries(of_prompts, len(prompt_key)), prompt_value)
        outputs = _of_lines(seen, lines) + torch.matmul(of_nodes, value)
        return outputs.view(lines, heads, rows, size)

    def _mask(self, window: int | None, lines: int) -> torch.Tensor:
        """Returns the mask to add to the scores; float32 [lines, 1, rows, prompt and nodes]."""
        if window not in self._masks:
            decoder = self._decoder
            times = lines // decoder._queries
            prompt_mask, lengths = decoder._there, decoder._there.sum(1, keepdim=True)
            prompt = prompt_mask.unsqueeze(1).expand(-1, len(self._depths), -1)
            nodes = self._visible
            if window is not None:
                # The distance back to each: in prompt positions, and in depths.
                back = lengths.unsqueeze(2) + self._depths.unsqueeze(1)
                prompt = prompt & (back - decoder._positions.unsqueeze(1) < window)
                nodes = nodes & (self._depths.unsqueeze(1) - decoder._depths < window)
            prompt = prompt.repeat_interleave(times, dim=0)
            seen = torch.cat([prompt, nodes.expand(lines, -1, -1)], dim=2).unsqueeze(1)
            mask = torch.zeros(seen.shape, device=seen.device)
            self._masks[window] = mask.masked_fill_(~seen, torch.finfo(torch.float32).min)
        return self._masks[window]


def _of_queries(states: torch.Tensor, queries: int) -> torch.Tensor:
    """Concatenates the lines of a query: [queries, groups, lines x rows, size]."""
    if len(states) == queries:
        return states
    return states.unflatten(0, (queries, -1)).transpose(1, 2).flatten(2, 3)


def _of_lines(states: torch.Tensor, lines: int) -> torch.Tensor:
    """Undoes `_of_queries`: [lines, groups, rows, size]."""
    if len(states) == lines:
        return states
    times = lines // len(states)
    return states.unflatten(2, (times, -1)).transpose(1, 2).flatten(0, 1)
