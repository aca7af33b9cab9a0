"""Scrubbing: takes out of a model what is known in closed form to belong to deleted documents.

A deletion leaves the weights as they are. Three parts of them can be told from the rest:

- codes that only deleted documents have: their rows, in the decoder's embedding and in the output
  layer, become the mean of the rows of live codes;
- edits (`dsi.backbones.position_edits`): what they add for the documents' queries is taken out,
  with the least change for other queries;
- lexical weights, which every deletion removes.

What training has put into other weights stays, as do codes shared with live documents. A few steps
can train it away (`train_away`): the last code of a deleted document becomes improbable for its
queries, while live documents' queries keep their probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from docids.table import FIRST_CODE
from dsi.updating.strategy_state import read_strategy_state

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from docids.table import DocidTable

_BATCH = 32


@dataclass(frozen=True)
class Scrubbed:
    """What a scrub removed.

    Attributes:
        rows: Codes whose rows were replaced.
        shared: Codes of deleted documents that live ones have too; their rows stay.
        edited: Positions whose edit was changed.
        steps: Steps that trained the documents away.
    """

    rows: int
    shared: int
    edited: int
    steps: int = 0


def scrub(
    model: PreTrainedModel,
    version: Path,
    table: DocidTable,
    deleted: npt.NDArray[np.int64],
    queries: Sequence[Sequence[int]],
    of: Sequence[int],
) -> Scrubbed:
    """Removes deleted documents from a model, in place.

    Args:
        model: The model.
        version: The version that it is from.
        table: The identifiers, in which the documents are retired already.
        deleted: Table rows of the documents; int64 [deleted].
        queries: Token ids of queries for them.
        of: Table row of the document of each query.
    """
    import torch

    codes = np.unique(_codes(table, deleted))
    live = np.unique(_codes(table, table.live))
    own = np.setdiff1d(codes, live)
    with torch.no_grad():
        for layer in (model.get_output_embeddings(), model.get_decoder().get_input_embeddings()):
            layer.weight[own] = layer.weight[live].mean(dim=0)
    edited = _without_edit(model, version, table, queries, of)
    return Scrubbed(rows=len(own), shared=len(codes) - len(own), edited=edited)


def train_away(
    model: PreTrainedModel,
    gone: Examples,
    kept: Examples,
    *,
    steps: int,
    lr: float = 1e-4,
    seed: int = 0,
) -> None:
    """Makes the last codes of deleted documents improbable for their queries, in place.

    Minimizes -log(1 - p(last code)) on their queries (unlikelihood: Welleck et al., ICLR 2020), and
    the KL divergence from the former model, at every position, on queries of live documents.

    Args:
        model: The model; stays in evaluation mode.
        gone: Queries of deleted documents.
        kept: Queries of live documents.
        steps: Steps of AdamW, each with at most 64 queries of both.
        lr: Its learning rate.
        seed: Seed of the order of queries.
    """
    import copy

    import torch
    from torch.nn import functional

    before = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(
        [weight for weight in model.parameters() if weight.requires_grad], lr=lr, weight_decay=0.0
    )
    rng = np.random.default_rng([seed, 23])
    for _ in range(steps):
        logits, codes = gone.logits(model, rng)
        there = codes > 0
        last = there.sum(dim=1) - 1
        lines = torch.arange(len(codes), device=codes.device)
        logs = logits[lines, last].log_softmax(-1).gather(1, codes[lines, last].unsqueeze(1))
        loss = -torch.log1p(-logs.exp().clamp_max(1 - 1e-6)).mean()
        if len(kept.texts):
            batch = kept.draw(rng)
            now, codes = kept.of(model, batch)
            with torch.no_grad():
                then, _ = kept.of(before, batch)
            apart = functional.kl_div(
                now.log_softmax(-1), then.log_softmax(-1), log_target=True, reduction="none"
            ).sum(-1)
            loss = loss + apart[codes > 0].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    optimizer.zero_grad()


@dataclass(frozen=True)
class Examples:
    """Queries, each with an identifier.

    Attributes:
        texts: Token ids of each query, at least one.
        identifiers: The codes of each one's identifier.
    """

    texts: Sequence[Sequence[int]]
    identifiers: Sequence[Sequence[int]]

    def draw(self, rng: np.random.Generator) -> list[int]:
        """Draws a batch."""
        return rng.permutation(len(self.texts))[:_BATCH].tolist()

    def logits(self, model: Any, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns `of` for a drawn batch."""
        return self.of(model, self.draw(rng))

    def of(self, model: Any, batch: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns logits [batch, positions, alphabet] and codes, int64, padded with PAD."""
        import torch

        from docids.table import PAD
        from dsi.backbones.inference import padded

        device = model.get_output_embeddings().weight.device
        input_ids, mask = padded([self.texts[number] for number in batch])
        codes, _ = padded([self.identifiers[number] for number in batch])
        begun = torch.cat([torch.full_like(codes[:, :1], PAD), codes[:, :-1]], dim=1)
        output = model(
            input_ids=input_ids.to(device),
            attention_mask=mask.to(device),
            decoder_input_ids=begun.to(device),
            use_cache=False,
        )
        return output.logits.float(), codes.to(device)


def _codes(table: DocidTable, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns the codes of some documents that mean something, with repetitions."""
    parts = [np.asarray(codes) for row in rows.tolist() for codes in table.sequences(row)]
    codes = np.concatenate([*parts, np.zeros(0, np.int32)]).astype(np.int64)
    return codes[codes >= FIRST_CODE]


def _without_edit(
    model: Any,
    version: Path,
    table: DocidTable,
    queries: Sequence[Sequence[int]],
    of: Sequence[int],
) -> int:
    """Takes the effect of an edit on queries out of it; returns the number of positions."""
    import torch

    from dsi.backbones.position_edits import edited_layer
    from dsi.updating.strategies.edit import STATE
    from dsi.updating.structures.closed_form import readings, without_keys

    layer = edited_layer(model)
    if layer is None or not queries:
        return 0
    positions, _, read = layer.edit.shape
    keys: list[list[torch.Tensor]] = [[] for _ in range(positions)]
    lines, identifiers = [], []
    for query, row in zip(queries, of, strict=True):
        for identifier in table.sequences(row):
            lines.append(query)
            identifiers.append(list(identifier))
    for reading in readings(model, lines, identifiers):
        for position in range(min(positions, reading.codes.shape[1])):
            there = reading.codes[:, position] > 0
            keys[position].append(reading.keys[there, position])
    seconds = read_strategy_state(version, STATE, {"width": read}).get("seconds")
    edits = layer.edit.clone()
    for position, of_position in enumerate(keys):
        some = torch.cat(of_position) if of_position else torch.zeros((0, read))
        if len(some):
            old = torch.eye(read, dtype=torch.float64)
            if seconds is not None and position < len(seconds):
                old = seconds[position].double()
            edits[position] = without_keys(edits[position], some, old)
    layer.edit = edits
    return sum(1 for of_position in keys if any(len(each) for each in of_position))
