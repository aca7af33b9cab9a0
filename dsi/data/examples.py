"""Training data of the model: pairs of a text and a document, from three tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.dataset import Dataset
from data_prep.errors import InputError
from data_prep.evidence import judged_examples
from data_prep.progress import track
from data_prep.rehearsal import CONTENTS, RehearsalOptions
from docids.table import DocidTable
from dsi.data.options import MixOptions
from dsi.text_encoders.text_encoder import TextEncoder
from dsi.text_encoders.tokenized_corpus import TokenizedCorpus

TASKS = ("indexing", "pseudo", "labeled")


@dataclass(frozen=True)
class Examples:
    """The examples of one task.

    Attributes:
        tokens: All token ids, concatenated over the examples; int32 [tokens].
        offsets: Where each example starts; int64 [examples + 1].
        rows: The table row of each example's document, or, after `per_identifier`, the number of
            the identifier to learn; int64 [examples].
    """

    tokens: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]

    @classmethod
    def pack(cls, lines: Sequence[Sequence[int]], rows: Sequence[int]) -> Examples:
        """Packs one list of token ids per example."""
        lengths = np.fromiter((len(line) for line in lines), np.int64, len(lines))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        flat = np.fromiter((token for line in lines for token in line), np.int32, offsets[-1])
        return cls(flat, offsets, np.asarray(rows, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The number of tokens of each example; int64 [examples]."""
        return np.diff(self.offsets)

    def take(self, numbers: npt.NDArray[np.int64]) -> Examples:
        """Returns some of the examples, in the order of `numbers`."""
        lines = [self.line(number) for number in numbers.tolist()]
        flat = np.concatenate(lines) if lines else np.zeros(0, np.int32)
        lengths = self.lengths[numbers]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Examples(flat, offsets, self.rows[numbers])

    def line(self, number: int) -> npt.NDArray[np.int32]:
        """The token ids of one example."""
        return self.tokens[self.offsets[number] : self.offsets[number + 1]]


def gather_examples(
    dataset: Dataset,
    corpus: TokenizedCorpus,
    options: MixOptions,
    *,
    generator: str | None,
    seed: int,
    rehearsal: RehearsalOptions | None = None,
) -> dict[str, Examples]:
    """Collects the examples of every task that has a share and training data.

    Args:
        dataset: Source of the queries; only split train is read.
        corpus: The documents; its text encoder also encodes the queries.
        options: Shares and lengths.
        generator: The generator whose pseudo-queries are used; None for no pseudo-queries.
        seed: Seed of the random chunks and of random rehearsal.
        rehearsal: What the indexing task reads; if None, only the documents.

    Returns:
        Task -> its examples; tasks without any are left out. In the indexing task, each content
        other than the documents is a task of its own ("indexing/passages").

    Raises:
        InputError: There is nothing to train on.
    """
    by_task: dict[str, Examples] = {}
    table, text = corpus.table, corpus.text
    rehearsal = rehearsal if rehearsal is not None else RehearsalOptions()
    if options.proportions["indexing"]:
        if rehearsal.document:
            by_task["indexing"] = _indexing(corpus, options, seed)
        by_task |= _rehearsed(dataset, table, text, options, rehearsal, seed)
    for task, (texts, rows) in task_queries(dataset, table, options, generator).items():
        by_task[task] = _without_unknown(text.encode(texts, options.query_length), rows)
    by_task = {task: examples for task, examples in by_task.items() if len(examples)}
    if not by_task:
        raise InputError(
            "nothing to train on: no task with a proportion above 0 has examples",
            where=dataset.path,
            hint="Set --mix.pseudo or --mix.indexing above 0",
        )
    return by_task


def task_proportions(mix: MixOptions, rehearsal: RehearsalOptions) -> dict[str, float]:
    """Returns task -> fraction of a batch, with the indexing task split by contents."""
    total = sum(rehearsal.proportions.values())
    shares = {
        "indexing" if name == "document" else f"indexing/{name}": mix.proportions["indexing"]
        * share
        / total
        for name, share in rehearsal.proportions.items()
    }
    return {**shares, "pseudo": mix.pseudo, "labeled": mix.labeled}


def _rehearsed(
    dataset: Dataset,
    table: DocidTable,
    text: TextEncoder,
    options: MixOptions,
    rehearsal: RehearsalOptions,
    seed: int,
) -> dict[str, Examples]:
    """Returns the examples of every content with a share, except the documents themselves."""
    contents = [name for name in CONTENTS if rehearsal.proportions[name]]
    parts: dict[str, list[str]] = {name: [] for name in contents}
    owners: dict[str, list[str]] = {name: [] for name in contents}
    if contents:
        for document in track(dataset.documents(), "rehearsal", dataset.info.documents):
            for name in contents:
                inputs = CONTENTS[name](document, rehearsal, seed)
                parts[name] += inputs
                owners[name] += [document.doc_id] * len(inputs)
    return {
        f"indexing/{name}": _without_unknown(
            text.encode_documents(parts[name], options.document_length), table.find(owners[name])
        )
        for name in contents
    }


def per_identifier(examples: Examples, table: DocidTable) -> Examples:
    """Repeats each example once for every identifier of its document.

    A text thus teaches all identifiers of its document, as in MINDER (Li et al., ACL 2023).

    Args:
        examples: The examples; `rows` are table rows.
        table: The identifiers.

    Returns:
        Examples whose `rows` are identifier numbers; the same examples if each document has one
        identifier.
    """
    if table.one_each:
        return examples
    numbers, places = table.numbers_of(examples.rows)
    lengths = examples.lengths[places]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    shift = np.repeat(examples.offsets[places] - offsets[:-1], lengths)
    return Examples(examples.tokens[np.arange(offsets[-1]) + shift], offsets, numbers)


def labeled_rows(dataset: Dataset, table: DocidTable) -> npt.NDArray[np.int64]:
    """Returns the table rows of the documents that have a labeled training query, ascending."""
    return np.unique(_labeled(dataset, table, MixOptions())[1])


def task_queries(
    dataset: Dataset, table: DocidTable, options: MixOptions, generator: str | None
) -> dict[str, tuple[list[str], npt.NDArray[np.int64]]]:
    """Returns the queries of each task that has a share, and the rows of their documents.

    Args:
        dataset: Source of the queries; only split train is read.
        table: The identifiers; queries of documents that are not in it are skipped.
        options: Shares.
        generator: The generator of the pseudo-queries; None for none.
    """
    queries = {}
    if options.pseudo and generator is not None:
        pseudo = dataset.pseudo_queries(generator)
        queries["pseudo"] = (list(pseudo["text"]), table.find(list(pseudo["doc_id"])))
    if options.labeled:
        queries["labeled"] = _labeled(dataset, table, options)
    return {
        task: ([texts[number] for number in np.flatnonzero(rows >= 0)], rows[rows >= 0])
        for task, (texts, rows) in queries.items()
    }


def _labeled(
    dataset: Dataset, table: DocidTable, options: MixOptions
) -> tuple[list[str], npt.NDArray[np.int64]]:
    pairs = judged_examples(dataset, "train", options.chains, options.query_length)
    return [text for text, _ in pairs], table.find([doc_id for _, doc_id in pairs])


def _without_unknown(encoded: Sequence[Sequence[int]], rows: npt.NDArray[np.int64]) -> Examples:
    """Packs encoded texts, skipping those of documents that are not in the table (row -1)."""
    known_rows = np.flatnonzero(rows >= 0)
    return Examples.pack(
        [encoded[number] for number in known_rows.tolist()], rows[known_rows].tolist()
    )


def _indexing(corpus: TokenizedCorpus, options: MixOptions, seed: int) -> Examples:
    """The first tokens of every document, then random chunks of it (DaQ, arXiv 2305.11841)."""
    length, part = options.document_length, corpus.text.part
    lines = [part(document, 0, length) for document in corpus.tokens]
    rows = list(range(len(corpus)))
    rng = np.random.default_rng([seed, 4])
    for row, document in enumerate(corpus.tokens):
        for _ in range(options.chunks if len(document) > length else 0):
            start = int(rng.integers(len(document) - length + 1))
            lines.append(part(document, start, length))
            rows.append(row)
    return Examples.pack(lines, rows)
