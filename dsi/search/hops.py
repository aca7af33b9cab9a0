"""Retrieval in several hops, each conditioned on the documents found before it.

After a hop the model reads the query and a sentence of the document found, and retrieves the next
document, as in Aly and Vlachos (EMNLP 2022, arXiv 2212.05276). Chains of documents are beams, and
documents and sentences are scored jointly: the score of a chain is that of its first document for
the query, plus for each further hop the log-probability of the sentence and of the next document
given query and sentences. The n best sentences of a document are equally probable before the next
document is known: the sentence that repeats the query best seldom leads on.

The scores of a search are not normalized if the index has a lexical layer, and differ in size
between texts. The log-probability of a later document is therefore its score less the log-sum-exp
over the documents that its search found and that are not in the chain. The first hop has one text,
so that its constant would be the same for all chains: it keeps the score of a plain search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from data_prep.evidence import (
    best_sentences,
    evidence_sentences,
    with_evidence,
)

if TYPE_CHECKING:
    from data_prep.dataset import Document
    from dsi.search.options import HopOptions


class ScoredHit(Protocol):
    """A document found by a search."""

    @property
    def doc_id(self) -> str:
        """Its id."""
        ...

    @property
    def score(self) -> float:
        """Its score in that search."""
        ...

    @property
    def data(self) -> dict[str, Any]:
        """The same as a JSON object."""
        ...


@dataclass(frozen=True)
class Sentence:
    """A sentence of a document.

    Attributes:
        text: The sentence.
        log_probability: The logarithm of its probability among the sentences that are read: -log n
            for n sentences.
    """

    text: str
    log_probability: float


@dataclass(frozen=True)
class Hop:
    """One hop of a chain.

    Attributes:
        hit: The document found, with its score in the search of this hop.
        log_probability: What the document adds to the score of the chain: in the first hop, the
            score of the search; later, its log-probability given the query and the sentences of the
            documents before it.
        sentence: The sentence that the next hop reads, which adds its log-probability; in the last
            hop, the best one by BM25, which adds nothing. None if the document was not read.
    """

    hit: Any
    log_probability: float
    sentence: Sentence | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The hop as a JSON object."""
        read = None if self.sentence is None else asdict(self.sentence)
        return {**self.hit.data, "log_probability": self.log_probability, "sentence": read}


@dataclass(frozen=True)
class Chain:
    """Documents found one after the other.

    Attributes:
        hops: One or more.
        evidence: The probability, by the verifier, that the sentences suffice; None if it was not
            asked about this chain.
    """

    hops: tuple[Hop, ...]
    evidence: float | None = None

    @property
    def doc_ids(self) -> list[str]:
        """The ids of the documents, in the order of the hops."""
        return [hop.hit.doc_id for hop in self.hops]

    @property
    def score(self) -> float:
        """The sum of the log-probabilities of all documents, and of all sentences but the last."""
        read = [hop.sentence.log_probability for hop in self.hops[:-1] if hop.sentence is not None]
        return math.fsum([*(hop.log_probability for hop in self.hops), *read])

    @property
    def sentences(self) -> list[str]:
        """The sentence of each document, without those that were not read."""
        return [hop.sentence.text for hop in self.hops if hop.sentence is not None]

    @property
    def data(self) -> dict[str, Any]:
        """The chain as a JSON object."""
        return {
            "score": self.score,
            "evidence": self.evidence,
            "hops": [hop.data for hop in self.hops],
        }


@dataclass(frozen=True)
class Reader:
    """The index that is searched.

    Attributes:
        search: Returns the documents found for each text; takes texts and how many documents.
        read: Returns the documents behind hits.
        verify: Returns for each pair of evidence and query the probability that the evidence
            suffices; None without a verifier.
        longest: Words of a sentence; a longer one is cut into parts.
        width: Documents that are searched for in each hop after the first.
    """

    search: Callable[[list[str], int], Sequence[Sequence[ScoredHit]]]
    read: Callable[[list[Any]], Sequence[Document]]
    verify: Callable[[list[str], list[str]], Sequence[float]] | None
    longest: int
    width: int


def search_in_hops(
    queries: Sequence[str],
    k: int,
    options: HopOptions,
    reader: Reader,
    *,
    read_last: bool = True,
) -> list[list[Chain]]:
    """Returns the best chains of each query, best first.

    All chains of a query have the same number of documents: a query stops as a whole, after the
    last hop, when its best chain suffices (`--hops.stop`), or when no chain can go on. A chain
    never comes back to one of its documents. A beam is a chain of documents and sentences; of
    chains with the same documents in the same order, the best one is returned. Ties keep the order
    in which they were found.

    Args:
        queries: The queries.
        k: How many chains to return for each.
        options: Number of hops, chains kept between them, sentences, and when to stop.
        reader: The index.
        read_last: Whether to choose a sentence of the last document of each chain, too.
    """
    first = reader.search(list(queries), k if options.count == 1 else max(k, options.beams))
    searches = [
        _Search(query, chains := [Chain((Hop(hit, hit.score),)) for hit in hits], chains)
        for query, hits in zip(queries, first, strict=True)
    ]
    going = searches
    for _ in range(options.count - 1):
        going = [one for one in going if not one.suffices(options, reader)]
        going = _hop(going, k, options, reader)
    for one in going:
        one.suffices(options, reader)
    if not read_last:
        return [one.chains[:k] for one in searches]
    return [[_read(one.query, chain, reader) for chain in one.chains[:k]] for one in searches]


@dataclass
class _Search:
    """A query with its chains of distinct documents and the beams of the next hop, best first."""

    query: str
    chains: list[Chain]
    beams: list[Chain]

    def suffices(self, options: HopOptions, reader: Reader) -> bool:
        """Asks the verifier, if there is one, about the best chain."""
        if reader.verify is None or not self.chains:
            return False
        best = self.chains[0]
        last = _sentences(self.query, best, options.sentences, reader)
        evidence = " ".join([*best.sentences, *(sentence.text for sentence in last)])
        [probability] = reader.verify([evidence], [self.query])
        self.chains[0] = replace(best, evidence=probability)
        return probability >= options.threshold


def _hop(searches: list[_Search], k: int, options: HopOptions, reader: Reader) -> list[_Search]:
    """Makes the chains one document longer; returns the searches that may go on."""
    asked = [
        (one, chain, sentence)
        for one in searches
        for chain in one.beams[: options.beams]
        for sentence in _sentences(one.query, chain, options.sentences, reader)
    ]
    texts = [
        with_evidence(one.query, [*chain.sentences, sentence.text])
        for one, chain, sentence in asked
    ]
    rankings = reader.search(texts, reader.width) if texts else []
    longer: dict[int, list[Chain]] = {id(one): [] for one in searches}
    for (one, chain, sentence), hits in zip(asked, rankings, strict=True):
        longer[id(one)] += _continued(chain, sentence, hits)
    going = []
    for one in searches:
        beams = sorted(longer[id(one)], key=lambda chain: -chain.score)
        likely = (
            options.stop != "threshold"
            or not beams
            or (math.exp(beams[0].hops[-1].log_probability) >= options.threshold)
        )
        if beams and likely:
            one.chains, one.beams = _distinct(beams)[:k], beams
            going.append(one)
    return going


def _continued(chain: Chain, sentence: Sentence, hits: Sequence[ScoredHit]) -> list[Chain]:
    """Returns a chain with each of the documents found after reading a sentence of its last one."""
    *before, last = chain.hops
    new = [hit for hit in hits if hit.doc_id not in chain.doc_ids]
    if not new:
        return []
    read = (*before, replace(last, sentence=sentence))
    return [
        Chain((*read, Hop(hit, log_probability)))
        for hit, log_probability in zip(new, _log_softmax([hit.score for hit in new]), strict=True)
    ]


def _distinct(chains: Sequence[Chain]) -> list[Chain]:
    """Returns the first chain with each sequence of documents."""
    first: dict[tuple[str, ...], Chain] = {}
    for chain in chains:
        first.setdefault(tuple(chain.doc_ids), chain)
    return list(first.values())


def _sentences(query: str, chain: Chain, number: int, reader: Reader) -> list[Sentence]:
    """Returns the best sentences of the last document of a chain, best first."""
    [document] = reader.read([chain.hops[-1].hit])
    texts = evidence_sentences(document, reader.longest)
    best = best_sentences(with_evidence(query, chain.sentences), texts, number)
    return [Sentence(text, -math.log(len(best))) for text in best]


def _log_softmax(scores: Sequence[float]) -> list[float]:
    """Returns the scores minus their log-sum-exp, in float64."""
    highest = max(scores)
    total = highest + math.log(math.fsum(math.exp(score - highest) for score in scores))
    return [score - total for score in scores]


def _read(query: str, chain: Chain, reader: Reader) -> Chain:
    """Returns a chain with the best sentence of its last document."""
    best = _sentences(query, chain, 1, reader)
    *before, last = chain.hops
    return replace(chain, hops=(*before, replace(last, sentence=best[0] if best else None)))


def ranked_documents(chains: Sequence[Chain], k: int) -> dict[str, float]:
    """Returns the documents of some chains as a ranking: doc_id -> score, best first.

    Documents stand in the order of the chains, and in a chain in the order of the hops. Each has
    the score of the first chain that holds it.

    Args:
        chains: The chains of a query, best first.
        k: How many documents to return.
    """
    scores: dict[str, float] = {}
    for chain in chains:
        for doc_id in chain.doc_ids:
            scores.setdefault(doc_id, chain.score)
    return dict(list(scores.items())[:k])
