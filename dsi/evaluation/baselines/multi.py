"""Multi-vector retrieval: fixed-dimensional encodings find candidates, MaxSim ranks them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from data_prep.dataset import Dataset
from data_prep.progress import track
from docids.muvera import Muvera, MuveraOptions, TokenVectors, chamfer
from docids.token_vectors import TokenEncoder
from dsi.evaluation.baselines.base import BASELINES, Baseline, best
from dsi.evaluation.baselines.bm25 import document_texts
from dsi.search.runs import Run

_CANDIDATES = 200
"""Fewest candidates of a query whose exact similarity is computed."""
_TOGETHER = 500
"""Texts that are encoded at a time."""
_ENCODING = MuveraOptions(bits=4, projection=16, repetitions=20, final=0)


@BASELINES.register("multi")
class MultiVectorBaseline(Baseline):
    """Ranks by MaxSim among the candidates with the largest product of encodings (MUVERA).

    Title and text of a document are encoded together, up to the maximum length of the encoder. The
    token vectors of all documents are kept in memory, in float16. Ranks beyond the candidates (200,
    or as many as documents are asked for) do not exist.

    Args:
        dataset: The documents.
        model: Hub id or folder of an encoder; see `docids.token_vectors`.
        language: Ignored.

    Raises:
        InputError: The package sentence-transformers or the model is not available, or the model
            has no token vectors.
    """

    takes_model: ClassVar[bool] = True

    def __init__(self, dataset: Dataset, model: str, language: str) -> None:
        super().__init__(dataset, model, language)
        self._encoder = TokenEncoder(model, where="--baselines")
        self._encoding = Muvera.draw(self._encoder.width, _ENCODING, seed=0)
        texts = [text.strip() for text in document_texts(dataset)]
        self._tokens, self._documents = self._encoded(texts)

    def _encoded(self, texts: Sequence[str]) -> tuple[TokenVectors, npt.NDArray[np.float32]]:
        """Returns the token vectors of documents, float16, and their encodings."""
        vectors = []
        encoded = np.zeros((len(texts), self._encoding.dimensions), np.float32)
        for start in range(0, len(texts), _TOGETHER):
            part = slice(start, start + _TOGETHER)
            tokens = self._encoder.documents(texts[part], np.float16)
            encoded[part] = self._encoding.documents(tokens)
            vectors += [tokens[row] for row in range(len(tokens))]
        return TokenVectors.of(vectors, self._encoder.width), encoded

    def scores(self, queries: Sequence[str]) -> Iterator[npt.NDArray[np.float32]]:
        """Yields the approximate scores of all documents for each query, float32 [documents]."""
        for _, approximate in self._approximate(queries):
            yield approximate

    def _approximate(
        self, queries: Sequence[str]
    ) -> Iterator[tuple[npt.NDArray[np.floating], npt.NDArray[np.float32]]]:
        """Yields the token vectors of each query, and the products of encodings."""
        for start in range(0, len(queries), _TOGETHER):
            tokens = self._encoder.queries(queries[start : start + _TOGETHER])
            encoded = self._encoding.queries(tokens)
            for row in range(len(tokens)):
                yield tokens[row], self._documents @ encoded[row]

    def run(self, queries: Mapping[str, str], k: int = 100, description: str = "") -> Run:
        """Ranks the documents for queries; see `Baseline.run`."""
        rankings: Run = {}
        queries_tokens = self._approximate(list(queries.values()))
        lines = track(queries_tokens, description, len(queries))
        for query_id, (tokens, approximate) in zip(queries, lines, strict=True):
            rows = np.sort(best(approximate, max(k, _CANDIDATES), positive=False))
            exact = chamfer(tokens, self._tokens, rows)
            order = best(exact, k, positive=False)
            rankings[query_id] = {
                self.doc_ids[int(rows[place])]: float(exact[place]) for place in order.tolist()
            }
        return rankings
