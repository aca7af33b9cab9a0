"""Fixed-dimensional encodings of token states (MUVERA) in place of an encoder's pooling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from docids.muvera import Muvera, MuveraOptions, TokenVectors


class MuveraPooling(nn.Module):
    """The query's encoding as part of a network, and the documents' for their rows.

    The directions are buffers, stored with the weights of the index.

    Args:
        width: Dimensions of a token state.
        settings: The fields of `MuveraOptions`, and "seed".
    """

    planes: torch.Tensor
    inner: torch.Tensor
    bucket: torch.Tensor
    sign: torch.Tensor

    def __init__(self, width: int, settings: Mapping[str, Any]) -> None:
        super().__init__()
        size = {name: value for name, value in settings.items() if name != "seed"}
        projections = Muvera.draw(width, MuveraOptions(**size), int(settings["seed"]))
        self.final = projections.final
        self.dimensions = projections.dimensions
        for name in ("planes", "inner", "bucket", "sign"):
            self.register_buffer(name, torch.from_numpy(getattr(projections, name)))

    def forward(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Encodes queries.

        Args:
            states: Token states; [texts, length, width].
            attention_mask: 1 at tokens, 0 at padding; [texts, length].

        Returns:
            [texts, dimensions], of the dtype of the states.
        """
        texts, length = attention_mask.shape
        tokens = functional.normalize(states, dim=-1) * attention_mask.unsqueeze(-1).to(states)
        bits = self.planes.shape[2]
        powers = 1 << torch.arange(bits, device=states.device)
        parts = []
        for planes, inner in zip(self.planes, self.inner, strict=True):
            codes = ((tokens @ planes.to(tokens)) > 0).long() @ powers
            projected = tokens @ inner.to(tokens)
            sums = projected.new_zeros((texts, 1 << bits, projected.shape[-1]))
            place = codes.unsqueeze(-1).expand(texts, length, projected.shape[-1])
            parts.append(sums.scatter_add(1, place, projected).flatten(1))
        encoding = torch.cat(parts, dim=1) / len(self.planes)
        if not self.final:
            return encoding
        short = encoding.new_zeros((texts, self.final))
        return short.index_add(1, self.bucket, encoding * self.sign.to(encoding))

    def documents(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Encodes documents, without gradients; float32 [texts, dimensions]; see `forward`."""
        tokens = functional.normalize(states.detach().float(), dim=-1).cpu().numpy()
        is_token = attention_mask.cpu().numpy() > 0
        lines = [line[real] for line, real in zip(tokens, is_token, strict=True)]
        planes, inner = self.planes.cpu().numpy(), self.inner.cpu().numpy()
        bucket, sign = self.bucket.cpu().numpy(), self.sign.cpu().numpy()
        muvera = Muvera(planes, inner, bucket, sign, self.final)
        encoded = muvera.documents(TokenVectors.of(lines, tokens.shape[-1]))
        return torch.from_numpy(np.asarray(encoded, np.float32)).to(states.device)
