"""Evidence sentences: the part of a document that multi-hop retrieval reads.

A model that has found a document reads the query and one sentence of it, and retrieves the next
document (Aly and Vlachos, EMNLP 2022). Training and search choose and join sentences here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from data_prep.bm25 import Bm25
from data_prep.dataset import Dataset, Document
from data_prep.text_processing import sentences

Chains = Literal["none", "ordered", "unordered"]


def evidence_sentences(document: Document, longest: int) -> list[str]:
    """Returns the distinct sentences of a document, at least one unless it is blank.

    Args:
        document: Its text is split; a document without one has its title as its only sentence.
        longest: A sentence of more words is cut into parts of this many.
    """
    pieces: dict[str, None] = {}
    for sentence in sentences(document.text) or sentences(document.title):
        parts = sentence.split()
        for start in range(0, len(parts), longest):
            pieces[" ".join(parts[start : start + longest])] = None
    return list(pieces)


def best_sentences(query: str, texts: Sequence[str], number: int) -> list[str]:
    """Returns the sentences with the highest BM25 scores for a query, best first.

    The sentences are their own collection: words that all of them share count little. There are
    neither stop words nor stems, so that this holds in every language. Ties keep their order.
    Sentences that tell nothing new, whose words are all in the query, come last.

    Args:
        query: What the sentences should tell about.
        texts: Sentences.
        number: How many to return, if there are as many.
    """
    if len(texts) < 2:
        return list(texts[:number])
    index = Bm25(texts, "none")
    [query_words, *words_of] = index.tokenize([query, *texts])
    nothing_new = np.array([set(words) <= set(query_words) for words in words_of])
    order = np.lexsort((-index.scores(query_words), nothing_new))
    return [texts[place] for place in order[:number].tolist()]


def with_evidence(query: str, evidence: Sequence[str]) -> str:
    """Returns what the model reads: the query, and the sentences with the latest one first.

    An encoder that reads only the beginning thus reads the query and the latest sentence.

    Args:
        query: The query.
        evidence: One sentence of each document found so far, in the order of the hops.
    """
    return " ".join([query, *reversed(evidence)])


def linking_sentence(document: Document, following: Document, longest: int) -> str:
    """Returns the sentence of a document that is most relevant to another document, by BM25.

    Args:
        document: The document whose sentence is read.
        following: The document to find by it: title and text are the query.
        longest: As in `evidence_sentences`.
    """
    about = f"{following.title} {following.text}"
    return next(iter(best_sentences(about, evidence_sentences(document, longest), 1)), "")


def chain_examples(
    query: str, chain: Sequence[Document], order: Chains, longest: int
) -> Iterator[tuple[str, str]]:
    """Yields the training examples of a query with several relevant documents: text, document id.

    Args:
        query: The query.
        chain: Its relevant documents, in the order of their judgments.
        order: "none": the query leads to each document. "ordered": the query leads to the first
            one, and query and sentences of the documents before it to every other one.
            "unordered": the query leads to each document, and query and a sentence of each to
            every other one.
        longest: As in `evidence_sentences`.
    """
    for document in chain[:1] if order == "ordered" else chain:
        yield query, document.doc_id
    if order == "ordered":
        read: list[str] = []
        for document, following in itertools.pairwise(chain):
            read.append(linking_sentence(document, following, longest))
            yield with_evidence(query, read), following.doc_id
    if order == "unordered":
        for document, following in itertools.permutations(chain, 2):
            sentence = linking_sentence(document, following, longest)
            yield with_evidence(query, [sentence]), following.doc_id


def judged_examples(
    dataset: Dataset, split: str, order: Chains, longest: int
) -> list[tuple[str, str]]:
    """Returns the training examples of the judged queries of a split: text, document id.

    Args:
        dataset: The dataset.
        split: "train", "dev" or "test".
        order: As in `chain_examples`.
        longest: As in `evidence_sentences`.
    """
    texts = dataset.query_texts()
    relevant = {
        query_id: [doc_id for doc_id, relevance in judged.items() if relevance > 0]
        for query_id, judged in dataset.qrels_of(split).items()
        if query_id in texts
    }
    if order == "none":
        return [(texts[one], doc_id) for one, doc_ids in relevant.items() for doc_id in doc_ids]
    judged_ids = {doc_id for doc_ids in relevant.values() for doc_id in doc_ids}
    documents = {each.doc_id: each for each in dataset.documents() if each.doc_id in judged_ids}
    return [
        example
        for query_id, doc_ids in relevant.items()
        for example in chain_examples(
            texts[query_id],
            [documents[doc_id] for doc_id in doc_ids if doc_id in documents],
            order,
            longest,
        )
    ]
