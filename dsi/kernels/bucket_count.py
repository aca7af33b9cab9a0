"""Chooses the number of passes of a step: less padding against the overhead of each pass."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dsi.backbones.backbone import row_weights
from dsi.kernels.length_buckets import fewest_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MET = re.compile(
    r"encoder\.(block|layers|network\.(?!\w*embed))|EncDecAttention\.[kv]\.|encoder_attn\.[kv]_proj\."
    r"|decoder\.language_model\."
)
"""Names of the weights that a token of a text meets."""
_MOVED = 400
"""How often as dear it is to add to the gradient of an embedding's weight, in every pass, as to use
a weight for one token. From runs on a CPU at two shapes, where it came out as 250 and 690."""


def pass_overhead_tokens(model: PreTrainedModel) -> float:
    """Returns the overhead of a pass, expressed in tokens of text that take as long.

    The gradient of an embedding is as large as the embedding, whatever a pass reads.
    """
    met = sum(weight.numel() for name, weight in model.named_parameters() if _MET.search(name))
    tables = row_weights(model)
    different = {id(table): table.numel() for table in tables if table.requires_grad}
    return _MOVED * sum(different.values()) / max(met, 1)


def best_bucket_count(
    lengths: npt.NDArray[np.int64], most: int, tokens_each: float, sharers: float
) -> int:
    """Returns the best number of length buckets for a step.

    Args:
        lengths: Number of tokens of each text of the step; int64 [texts].
        most: Maximum number of buckets.
        tokens_each: Overhead of a pass, in tokens.
        sharers: How many parts the step is split into, over all processes.
    """
    most = min(most, len(lengths))
    if most <= 1:
        return 1
    costs: Sequence[float] = [
        tokens / sharers + passes * tokens_each
        for passes, tokens in enumerate(fewest_tokens(lengths, most), 1)
    ]
    return int(np.argmin(costs)) + 1
