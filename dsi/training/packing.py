"""Batches of as many texts as a budget of tokens allows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt


def packed(lengths: npt.NDArray[np.int64], tokens: int) -> list[npt.NDArray[np.int64]]:
    """Packs texts into batches of like lengths, each within a budget that counts padding in.

    Texts are taken from the longest to the shortest, so that the first of a batch says what each
    of them takes. The last batch shares with the one before it, where it would be smaller.

    Args:
        lengths: Tokens of each text, one at least being reckoned with; int64 [texts].
        tokens: Most texts x longest text of a batch.

    Returns:
        The places of the texts of each batch, from the shortest texts to the longest, each batch
        as they come in `lengths` among equals; int64.

    Raises:
        ValueError: A text alone is longer than the budget.
    """
    order = np.argsort(lengths, kind="stable")
    ends = [len(order)]
    while ends[-1] > 0:
        longest = max(int(lengths[order[ends[-1] - 1]]), 1)
        if longest > tokens:
            raise ValueError(f"a text of {longest} tokens exceeds the budget of {tokens}")
        ends.append(max(0, ends[-1] - tokens // longest))
    cuts = ends[::-1]
    if len(cuts) > 2 and cuts[1] < cuts[2] - cuts[1]:
        cuts[1] = cuts[2] // 2
    return [order[start:end] for start, end in pairwise(cuts)]
