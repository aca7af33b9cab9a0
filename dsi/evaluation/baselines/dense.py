"""Dense retrieval with a pretrained encoder, without fine-tuning."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from data_prep.dataset import Dataset
from docids.sentence_encoder import SentenceEncoder
from dsi.evaluation.baselines.base import BASELINES, Baseline
from dsi.evaluation.baselines.bm25 import document_texts

_TOGETHER = 64
"""Number of queries whose scores are in memory at once."""


@BASELINES.register("dense")
class DenseBaseline(Baseline):
    """Ranks by the similarity of query and document vectors, which is the cosine for most encoders.

    Title and text of a document are encoded together, up to the maximum length of the encoder.

    Args:
        dataset: The documents.
        model: Hub id or folder of an encoder; see `docids.sentence_encoder`.
        language: Ignored.

    Raises:
        InputError: The package sentence-transformers or the model is not available.
    """

    takes_model: ClassVar[bool] = True

    def __init__(self, dataset: Dataset, model: str, language: str) -> None:
        super().__init__(dataset, model, language)
        self._encoder, self._documents = _encoded(dataset, model)

    def scores(self, queries: Sequence[str]) -> Iterator[npt.NDArray[np.float32]]:
        """Yields the scores of all documents for each query; see `Baseline.scores`."""
        vectors = self._encoder.encode_queries(queries)
        for start in range(0, len(queries), _TOGETHER):
            yield from vectors[start : start + _TOGETHER] @ self._documents.T


_Encoded = tuple[SentenceEncoder, npt.NDArray[np.float32]]


def _encoded(dataset: Dataset, model: str) -> _Encoded:
    """Returns an encoder and its document vectors, computed once for `dense` and `fusion`."""
    return _cached_vectors(model, str(dataset.path), dataset.info.content_hash)


@functools.lru_cache(maxsize=1)
def _cached_vectors(model: str, path: str, content_hash: str) -> _Encoded:
    encoder = SentenceEncoder(model, where="--baselines")
    texts = [text.strip() for text in document_texts(Dataset.open(path))]
    return encoder, encoder.encode_documents(texts)
