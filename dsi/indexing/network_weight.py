"""Selects how much the network counts beside the lexical layer, on the dev queries.

The vectors of a text encoder that does not know the language of the corpus, or of texts that share
few words, only add noise to the lexical scores. The default weight is kept unless the dev queries
are significantly better off with another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from docids.table import PAD

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dsi.training.validation import DevQueries

FACTORS = (1 / 32, 1 / 8, 1 / 4, 1 / 2, 1.0, 3 / 2, 2.0, 4.0)
"""Candidates, in units of the default weight."""
_SIGNIFICANT = 2.0
"""Standard errors by which dev queries have to gain."""
_BATCH = 64


def choose_factor(
    model: PreTrainedModel, queries: DevQueries, codes: npt.NDArray[np.int64]
) -> float:
    """Returns the factor of the logits of the network that ranks the dev queries best.

    Args:
        model: A network whose identifiers have one code each.
        queries: Dev queries with the lexical layer.
        codes: The code of each document; int64 [documents].

    Returns:
        One of `FACTORS`; 1 unless the mean reciprocal rank with another is more than two standard
        errors of the difference better.
    """
    ranks = np.concatenate(
        [
            reciprocal_ranks(*_scores(model, queries, codes, part), queries.rows[part])
            for part in _parts(len(queries))
        ],
        axis=1,
    )
    return significantly_best(ranks)


def reciprocal_ranks(
    network: npt.NDArray[np.float32], lexical: npt.NDArray[np.float32], rows: Any
) -> npt.NDArray[np.float64]:
    """Returns the reciprocal rank of the relevant document with each factor.

    Equal scores count as ahead.

    Args:
        network: Logits of the documents; float32 [queries, documents].
        lexical: Their lexical scores; float32 [queries, documents].
        rows: Row of the relevant document of each query.

    Returns:
        float64 [factors, queries].
    """
    found = np.zeros((len(FACTORS), len(network)))
    for place, factor in enumerate(FACTORS):
        scores = np.float32(factor) * network + lexical
        target_scores = scores[np.arange(len(scores)), rows]
        found[place] = 1 / (scores >= target_scores[:, None]).sum(1)
    return found


def significantly_best(ranks: npt.NDArray[np.float64]) -> float:
    """Returns the factor with the best mean; 1 unless it is significantly better.

    Args:
        ranks: Reciprocal ranks; float64 [factors, queries].
    """
    default = FACTORS.index(1.0)
    best = int(ranks.mean(1).argmax())
    difference = ranks[best] - ranks[default]
    error = float(difference.std()) / len(difference) ** 0.5
    return FACTORS[best] if difference.mean() > _SIGNIFICANT * error else 1.0


def scale_logits(model: Any, factor: float) -> None:
    """Multiplies the logits of a T5 with untied output rows, by its last norm."""
    import torch

    with torch.no_grad():
        model.decoder.final_layer_norm.weight.mul_(factor)


def _parts(count: int) -> list[slice]:
    return [slice(start, start + _BATCH) for start in range(0, count, _BATCH)]


def _scores(
    model: Any, queries: DevQueries, codes: npt.NDArray[np.int64], part: slice
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Returns the logits and the lexical scores of all documents for some queries."""
    import torch

    from dsi.backbones.inference import evaluating, padded

    input_ids, mask = padded(list(queries.tokens[part]))
    start = torch.full((len(input_ids), 1), PAD, dtype=torch.int64)
    with evaluating(model, torch.no_grad):
        logits = model(
            input_ids=input_ids.to(model.device),
            attention_mask=mask.to(model.device),
            decoder_input_ids=start.to(model.device),
        ).logits
    assert queries.lexical is not None
    lexical = queries.lexical.scores(list(queries.texts[part]))
    return logits[:, 0].float().cpu().numpy()[:, codes], lexical
