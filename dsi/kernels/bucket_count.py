"""In how many passes a step is computed: less padding against what each pass costs by itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

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
    """Returns how many tokens of text take as long as a pass costs by itself.

    Gradients of embeddings are as large as the embeddings, whatever a pass reads.
    """
    met = sum(weight.numel() for name, weight in model.named_parameters() if _MET.search(name))
    tables = (
        model.get_encoder().get_input_embeddings().weight,
        model.get_decoder().get_input_embeddings().weight,
        model.get_output_embeddings().weight,
    )
    different = {id(table): table.numel() for table in tables if table.requires_grad}
    return _MOVED * sum(different.values()) / max(met, 1)


def best_bucket_count(
    lengths: npt.NDArray[np.int64], most: int, tokens_each: float, sharers: float
) -> int:
    """Returns how many groups of similar lengths a step is best computed in.

    Args:
        lengths: Tokens of all texts of the step; int64 [texts].
        most: Up to how many.
        tokens_each: What a pass costs by itself, in tokens.
        sharers: How many parts, over all processes, share the step.
    """
    most = min(most, len(lengths))
    if most <= 1:
        return 1
    costs: Sequence[float] = [
        tokens / sharers + passes * tokens_each
        for passes, tokens in enumerate(fewest_tokens(lengths, most), 1)
    ]
    return int(np.argmin(costs)) + 1
