"""Measures forgetting in an update: Hits on a set of probe queries, before and after."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dsi.index_folder.stored_corpus import StoredCorpus

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from docids.table import DocidTable
    from dsi.search.document_scores import DocumentScores
    from dsi.text_encoders.text_encoder import TextEncoder

SOURCES = ("dev", "pseudo")


@dataclass(frozen=True)
class Probe:
    """Probe queries for documents that are already in an index.

    Attributes:
        source: "dev" for labeled dev queries, or "pseudo" for held-out pseudo-queries if there are
            none.
        texts: The queries.
        doc_ids: The relevant document of each query.
    """

    source: str
    texts: list[str]
    doc_ids: list[str]

    @classmethod
    def of(cls, corpus: StoredCorpus, *, without: Collection[str], most: int, seed: int) -> Probe:
        """Samples probe queries from the stored corpus of a version.

        Args:
            corpus: The stored corpus.
            without: Documents to exclude, such as those that are about to change.
            most: Maximum number of queries.
            seed: Random seed.
        """
        left_out = frozenset(without)
        rng = np.random.default_rng([seed, 21])
        texts = corpus.dataset.query_texts()
        pairs = [
            (texts[query_id], max(judged, key=lambda doc_id: judged[doc_id]))
            for query_id, judged in corpus.dataset.qrels_of("dev").items()
            if query_id in texts and max(judged.values()) > 0
        ]
        pairs = [pair for pair in pairs if pair[1] not in left_out]
        source = "dev" if pairs else "pseudo"
        if not pairs:
            pairs = _generated_queries(corpus, left_out, most, rng)
        sampled = [pairs[number] for number in rng.permutation(len(pairs))[:most].tolist()]
        return cls(source, [text for text, _ in sampled], [doc_id for _, doc_id in sampled])

    def to_json(self) -> dict[str, object]:
        """Returns the probe as JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Probe:
        """Restores a probe from the output of `to_json`."""
        return cls(**value)

    def measure(
        self,
        model: PreTrainedModel,
        text: TextEncoder,
        table: DocidTable,
        length: int,
        beams: int,
        score: str = "model",
        lexical: DocumentScores | None = None,
    ) -> dict[str, float]:
        """Returns Success@1, Success@10 and RR@10 of a model; empty if there is no query.

        Args:
            model: The model.
            text: Its text encoder.
            table: Its identifier table.
            length: Maximum query tokens.
            beams: Beam width.
            score: How documents are scored.
            lexical: Its lexical layer; None without one.
        """
        from docids.trie import Trie
        from dsi.search.torch_trie import TorchTrie
        from dsi.training.validation import DevQueries, validate

        if not self.texts:
            return {}
        rows = table.find(self.doc_ids).tolist()
        queries = DevQueries.of(self.texts, rows, text, length, lexical)
        device = model.get_output_embeddings().weight.device
        trie = TorchTrie.from_trie(Trie.build(table), device)
        return validate(model, queries, trie, beams, score)


def _generated_queries(
    corpus: StoredCorpus, left_out: Collection[str], most: int, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """Generates one keyword query, unseen in training, for each of a random sample of documents."""
    from data_prep.generators import GENERATORS

    documents = [each for each in corpus.dataset.documents() if each.doc_id not in left_out]
    sampled = [documents[number] for number in rng.permutation(len(documents))[:most].tolist()]
    kind = GENERATORS["extractive"]
    options = kind.options_class(per_doc=1, seed=int(rng.integers(2**31)))
    generator = kind(corpus.dataset, options)
    return [
        (text, document.doc_id) for document in sampled for text in generator.generate(document)
    ]
