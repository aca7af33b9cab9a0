"""What old documents lose by an update: Hits on a set of probe queries, before and after."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dsi.stored_corpus import StoredCorpus

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from docids.table import DocidTable
    from dsi.search.document_scores import DocumentScores
    from dsi.text_encoder import TextEncoder

SOURCES = ("dev", "pseudo")


@dataclass(frozen=True)
class Probe:
    """Queries whose documents an index has had for some time.

    Attributes:
        source: "dev" for labelled dev queries, "pseudo" for pseudo-queries made for this alone,
            where there are none.
        texts: The queries.
        doc_ids: The document that each must find.
    """

    source: str
    texts: list[str]
    doc_ids: list[str]

    @classmethod
    def of(cls, corpus: StoredCorpus, *, without: Collection[str], most: int, seed: int) -> Probe:
        """Draws probe queries from the stored corpus of a version.

        Args:
            corpus: The stored corpus.
            without: Documents not to ask for, such as those that are about to change.
            most: How many queries to draw at most.
            seed: Of the choice.
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
            pairs = _made_for_this(corpus, left_out, most, rng)
        picked = [pairs[number] for number in rng.permutation(len(pairs))[:most].tolist()]
        return cls(source, [text for text, _ in picked], [doc_id for _, doc_id in picked])

    def to_json(self) -> dict[str, object]:
        """Returns what JSON can hold of it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Probe:
        """Returns what `to_json` was called on."""
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
        """Returns Success@1, Success@10 and RR@10 of a model; empty where there is no query.

        Args:
            model: The model.
            text: Its encoder of texts.
            table: Its identifiers.
            length: Longest query in tokens.
            beams: Width of the search.
            score: What a document's score is.
            lexical: Its lexical layer; None without.
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


def _made_for_this(
    corpus: StoredCorpus, left_out: Collection[str], most: int, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """One keyword query a document that no training has seen, of documents drawn at random."""
    from data_prep.generators import GENERATORS

    documents = [each for each in corpus.dataset.documents() if each.doc_id not in left_out]
    picked = [documents[number] for number in rng.permutation(len(documents))[:most].tolist()]
    kind = GENERATORS["extractive"]
    options = kind.options_class(per_doc=1, seed=int(rng.integers(2**31)))
    generator = kind(corpus.dataset, options)
    return [(text, document.doc_id) for document in picked for text in generator.generate(document)]
