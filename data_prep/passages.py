"""Splits long documents into passages, and merges results for passages into documents.

The id of a passage is that of its document, `#passage-` and a number from 1. All ids in a Dataset
of passages end like this. Source ids may end like this, too, because only the last suffix counts.
The score of a document is that of its best passage (MaxP: Dai and Callan, SIGIR 2019, section 3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, TypeVar

from data_prep.checks import Options
from data_prep.dataset import Document, ExampleCounter, Qrel, Query, SourceData
from data_prep.errors import InputError
from data_prep.marks import Count, Needs, Whole
from data_prep.text_processing import words

_MARK = "#passage-"
_WORD = re.compile(r"\S+")
V = TypeVar("V", int, float)


@dataclass(frozen=True, kw_only=True)
class PassageOptions(Options):
    """How long documents are split into passages."""

    passages: Count | None = None
    """Words per passage; documents are split into passages, and results are whole documents;
    default: no split"""
    overlap: Annotated[Whole, Needs("passages")] = 0
    """Words shared by consecutive passages"""

    def conflicts(self) -> None:
        """Refuses an overlap that is not shorter than a passage."""
        if self.passages is not None and self.overlap >= self.passages:
            raise InputError(
                f"--overlap {self.overlap} is not less than --passages {self.passages}",
                hint="Use a smaller --overlap, or larger --passages",
            )

    def to_json(self) -> dict[str, int] | None:
        """Returns the options as stored; None if documents are not split."""
        return None if self.passages is None else asdict(self)


def document_of(passage_id: str) -> str:
    """Returns the id of the document that a passage belongs to."""
    document, mark, number = passage_id.rpartition(_MARK)
    return document if mark and number.isdecimal() else passage_id


def folded(scores: Mapping[str, V]) -> dict[str, V]:
    """Returns document id -> value of its best passage, in the order of first occurrence."""
    best: dict[str, V] = {}
    for passage_id, value in scores.items():
        doc_id = document_of(passage_id)
        best[doc_id] = max(value, best.get(doc_id, value))
    return best


def folded_each(values: Mapping[str, Mapping[str, V]]) -> dict[str, dict[str, V]]:
    """Applies `folded` to each query of a run or of judgments: query_id -> document -> value."""
    return {query_id: folded(each) for query_id, each in values.items()}


def cut(text: str, words_each: int, overlap: int = 0) -> Iterator[str]:
    """Yields passages of a fixed number of words; the last one may be shorter.

    Args:
        text: The text; white space between words stays as it is.
        words_each: Words of a passage.
        overlap: Words that the next one begins with; less than `words_each`.
    """
    word_spans = [match.span() for match in _WORD.finditer(text)]
    start = 0
    while True:
        spans = word_spans[start : start + words_each]
        yield text[spans[0][0] : spans[-1][1]] if spans else ""
        if start + words_each >= len(word_spans):
            return
        start += words_each - overlap


class PassageSource:
    """A source whose documents are split into passages.

    A judgment to train on goes to the passage that has most of the query's words, the first of
    equal ones; other judgments go to every passage, as any of them leads to the document.

    Args:
        source: The source to cut.
        options: How.
    """

    def __init__(self, source: SourceData, options: PassageOptions) -> None:
        self.name, self.source, self.license = source.name, source.source, source.license
        self.drop_duplicate_texts = source.drop_duplicate_texts
        self.passages = options
        self.passed_over: dict[str, ExampleCounter] = getattr(source, "passed_over", {})
        self.noted: dict[str, ExampleCounter] = getattr(source, "noted", {})
        self._inner = source
        self._counts: dict[str, int] = {}

    def documents(self) -> Iterator[Document]:
        """Yields the passages, each with the title of its document."""
        self._counts.clear()
        for document in self._inner.documents():
            for number, (passage_id, text) in enumerate(self._passages_of(document), 1):
                self._counts[document.doc_id] = number
                yield replace(document, doc_id=passage_id, text=text)

    def queries(self) -> Iterable[Query]:
        """Returns the queries of the source."""
        return self._inner.queries()

    def qrels(self) -> Iterator[Qrel]:
        """Yields a judgment of a passage for each to train on, and of every passage otherwise."""
        if not self._counts:
            for _ in self.documents():
                pass
        best = self._best()
        for qrel in self._inner.qrels():
            pair = (qrel.query_id, qrel.doc_id)
            if qrel.split == "train" and pair in best:
                yield replace(qrel, doc_id=best[pair])
                continue
            # A document that is not there stays one that is not there.
            for number in range(1, 1 + max(1, self._counts.get(qrel.doc_id, 1))):
                yield replace(qrel, doc_id=_passage(qrel.doc_id, number))

    def _passages_of(self, document: Document) -> Iterator[tuple[str, str]]:
        assert self.passages.passages is not None
        pieces = cut(document.text, self.passages.passages, self.passages.overlap)
        for number, text in enumerate(pieces, 1):
            yield _passage(document.doc_id, number), text

    def _best(self) -> dict[tuple[str, str], str]:
        """Returns (query id, document id) of what is trained on -> the passage to learn."""
        judged: dict[str, list[str]] = {}
        for qrel in self._inner.qrels():
            if qrel.split == "train" and qrel.relevance > 0:
                judged.setdefault(qrel.doc_id, []).append(qrel.query_id)
        if not judged:
            return {}
        texts = {query.query_id: set(words(query.text)) for query in self._inner.queries()}
        best = {}
        for document in self._inner.documents():
            queries = judged.get(document.doc_id)
            if not queries:
                continue
            pieces = [(name, set(words(text))) for name, text in self._passages_of(document)]
            for query_id in queries:
                query_words = texts.get(query_id, set())
                name, _ = max(pieces, key=lambda piece: len(query_words & piece[1]))
                best[(query_id, document.doc_id)] = name
        return best


def _passage(doc_id: str, number: int) -> str:
    return f"{doc_id}{_MARK}{number}"
