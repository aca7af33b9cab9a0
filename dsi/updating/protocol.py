"""The continual-indexing protocol: D0, then increments, one index for each strategy and seed.

    OUT/base/seed0/              an index of D0, trained once for all strategies
    OUT/indexes/STRATEGY-seed0/  grows by one increment after another
    OUT/results/STRATEGY-seed0/  d0.json, d1.json, ...: what was measured after each
    OUT/curves/STRATEGY-seed0/   d1.jsonl, ...: what was measured during each

Every step leaves its result before the next one begins: run again, it continues where it stopped.
New corpora come without labelled training queries; test queries of every corpus are asked after
every update of the whole index, which is not told which corpus a query is of.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.dataset import (
    Dataset,
    Document,
    Qrel,
    Query,
    SourceData,
    refuse_other_content,
    write_dataset,
)
from data_prep.errors import InputError
from data_prep.files import (
    read_json,
    read_json_lines,
    replacing_folder,
    write_json,
    write_json_lines,
)
from data_prep.splits import increment_shares, queries_of_parts, split_documents
from docids.assignment import text_of
from dsi import versions
from dsi.training.build import TrainingOptions
from dsi.updating.options import UpdateOptions, with_changes
from dsi.updating.update import link_or_copy, update_index

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from dsi.index import Index
    from dsi.objectives.base import Objective
    from dsi.updating.strategies.base import Update

_SPLIT = "split.json"
_ALL_SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class ContinualOptions:
    """How strategies are compared.

    Attributes:
        strategies: As `with_changes` reads them.
        seeds: How many seeds, from 0.
        interval: Steps between evaluations during an update; 0 for none.
        curve_queries: Most queries and documents of each corpus that these ask for.
        beams: Width of the searches; None for that of the index.
        train: How the index of D0 is trained.
        update: Options that all strategies share.
    """

    strategies: tuple[str, ...]
    seeds: int = 3
    interval: int = 2
    curve_queries: int = 200
    beams: int | None = None
    train: TrainingOptions = field(default_factory=TrainingOptions)
    update: UpdateOptions = field(default_factory=UpdateOptions)

    def __post_init__(self) -> None:
        if not self.strategies:
            raise InputError("--strategies names none")
        for name in self.strategies:
            with_changes(self.update, name)
        if len(set(self.strategies)) < len(self.strategies):
            raise InputError("--strategies names one twice")
        if self.seeds < 1:
            raise InputError(f"--seeds {self.seeds} is less than 1")
        if self.interval < 0:
            raise InputError(f"--interval {self.interval} is negative")
        if self.curve_queries < 1:
            raise InputError(f"--curve_queries {self.curve_queries} is less than 1")
        if self.update.strategy != UpdateOptions().strategy:
            raise InputError(
                "--update.strategy changes nothing here", mend="Name it among --strategies"
            )


class _Part(SourceData):
    """One corpus of a split dataset, with the queries that it may have."""

    def __init__(
        self,
        dataset: Dataset,
        name: str,
        doc_ids: Iterable[str],
        queries: dict[str, Sequence[str]],
    ) -> None:
        self.name = name
        self.source = f"{dataset.info.source} ({name})"
        self.licence = dataset.info.licence
        self.drop_duplicate_texts = False
        self._dataset = dataset
        self._doc_ids = frozenset(doc_ids)
        self._queries = queries

    def documents(self) -> Iterator[Document]:
        return (each for each in self._dataset.documents() if each.doc_id in self._doc_ids)

    def queries(self) -> Iterator[Query]:
        wanted = {query_id for some in self._queries.values() for query_id in some}
        for query_id, text in self._dataset.query_texts().items():
            if query_id in wanted:
                yield Query(query_id, text)

    def qrels(self) -> Iterator[Qrel]:
        for split, wanted in self._queries.items():
            judged = self._dataset.qrels_of(split)
            for query_id in wanted:
                for doc_id, relevance in judged[query_id].items():
                    if doc_id in self._doc_ids:
                        yield Qrel(query_id, doc_id, relevance, split)


def split_dataset(
    dataset: Dataset,
    out: Path,
    *,
    increments: int,
    share: float,
    seed: int,
    documents: int | None = None,
) -> list[Dataset]:
    """Splits a dataset into D0 and increments: the folders d0, d1, ... of `out`.

    D0 has its queries of all splits; increments have those of test only. A query comes with the
    last of its relevant documents.

    Args:
        dataset: What to split.
        out: Where to.
        increments: How many there are besides D0.
        share: D0's share of the documents; the others share the rest evenly.
        seed: Of the choice.
        documents: Take only the first so many documents.

    Raises:
        InputError: The shares are impossible, or `out` holds something else.
    """
    if out.is_dir() and any(out.iterdir()) and not (out / _SPLIT).is_file():
        refuse_other_content(out)
        raise InputError(
            "this folder holds something that is not a split dataset",
            where=out,
            mend="Choose another --out; this one is left as it is",
        )
    if documents is not None and documents < 1:
        raise InputError(f"--documents {documents} is less than 1")
    parts = split_documents(dataset.doc_ids[:documents], increment_shares(share, increments), seed)
    queries = {split: queries_of_parts(dataset.qrels_of(split), parts) for split in _ALL_SPLITS}
    with replacing_folder(out) as fresh:
        for number, doc_ids in enumerate(parts):
            kept = _ALL_SPLITS if number == 0 else ("test",)
            source = _Part(
                dataset,
                f"{dataset.info.name}-d{number}",
                doc_ids,
                {split: queries[split][number] for split in kept},
            )
            write_dataset(fresh / f"d{number}", source)
        write_json(
            fresh / _SPLIT,
            {
                "dataset": dataset.info.name,
                "content_hash": dataset.info.content_hash,
                "increments": increments,
                "share": share,
                "seed": seed,
                "documents": [len(part) for part in parts],
            },
        )
    return open_split(out)


def open_split(folder: Path) -> list[Dataset]:
    """Opens D0, D1, ... in the folder of a split dataset.

    Raises:
        InputError: It is none.
    """
    if not (folder / _SPLIT).is_file():
        raise InputError(
            "not a split dataset (split.json is missing)",
            where=folder,
            mend="Make one with: dsi split DATASET --out FOLDER",
        )
    count = int(read_json(folder / _SPLIT)["increments"])
    return [Dataset.open(folder / f"d{number}") for number in range(count + 1)]


@dataclass(frozen=True)
class Questions:
    """What one corpus is asked.

    Attributes:
        queries: Its test queries.
        targets: The document that each must find.
        texts: Its documents.
        doc_ids: Their ids.
    """

    queries: list[str]
    targets: list[str]
    texts: list[str]
    doc_ids: list[str]

    @classmethod
    def of(cls, corpus: Dataset) -> Questions:
        """Reads the test queries and documents of a corpus.

        Raises:
            InputError: It has no test query.
        """
        texts = corpus.query_texts()
        pairs = [
            (texts[query_id], max(judged, key=lambda doc_id: judged[doc_id]))
            for query_id, judged in corpus.qrels_of("test").items()
            if max(judged.values()) > 0
        ]
        if not pairs:
            raise InputError(
                "no test query asks for a document of this corpus",
                where=corpus.path,
                mend="Take larger increments, or a dataset with more test queries",
            )
        documents = list(corpus.documents())
        return cls(
            [query for query, _ in pairs],
            [target for _, target in pairs],
            text_of((each.title for each in documents), (each.text for each in documents)),
            [each.doc_id for each in documents],
        )

    def sample(self, most: int, seed: int) -> Questions:
        """Returns a seeded choice of at most so many queries, and of as many documents."""
        rng = np.random.default_rng([seed, 31])
        queries = np.sort(rng.permutation(len(self.queries))[:most]).tolist()
        documents = np.sort(rng.permutation(len(self.doc_ids))[:most]).tolist()
        return Questions(
            [self.queries[place] for place in queries],
            [self.targets[place] for place in queries],
            [self.texts[place] for place in documents],
            [self.doc_ids[place] for place in documents],
        )


def run_continual(split: Path, out: Path, options: ContinualOptions) -> dict[str, Any]:
    """Runs every strategy with every seed over all increments; continues where it stopped.

    Args:
        split: The folder of a split dataset.
        out: Where indexes and results are.
        options: What to run.

    Returns:
        What `summarise` makes of all results.

    Raises:
        InputError: `out` holds results of another split or other options.
    """
    from dsi.updating.summary import summarise

    corpora = open_split(split)
    claim(out, split, options)
    for seed in range(options.seeds):
        base, first = train_base(corpora, out, options, seed)
        for strategy in options.strategies:
            run_strategy(corpora, out, options, strategy, seed, base, first)
    return summarise(out, options.strategies, options.seeds)


def claim(out: Path, split: Path, options: ContinualOptions) -> None:
    """Makes a folder this comparison's own.

    Raises:
        InputError: It holds results of another split or other options.
    """
    wanted = json.loads(
        json.dumps(
            {
                "split": read_json(split / _SPLIT),
                "interval": options.interval,
                "curve_queries": options.curve_queries,
                "beams": options.beams,
                "train": dataclasses.asdict(options.train),
                "update": dataclasses.asdict(options.update),
            }
        )
    )
    file = out / "continual.json"
    if not file.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise InputError(
                "this folder holds something else", where=out, mend="Choose another --out"
            )
        write_json(file, wanted)
    elif read_json(file) != wanted:
        raise InputError(
            "results of another split or other options are here",
            where=out,
            mend="Choose another --out; strategies and seeds may be added to the same one",
        )


def train_base(
    corpora: Sequence[Dataset], out: Path, options: ContinualOptions, seed: int
) -> tuple[Path, dict[str, Any]]:
    """Trains the index of D0 that all strategies start from, and measures it."""
    from dsi.training.build import train_index

    base = out / "base" / f"seed{seed}"
    file = out / "base" / f"seed{seed}.json"
    began = time.perf_counter()
    manifest = train_index(corpora[0], base, dataclasses.replace(options.train, seed=seed))
    if not file.is_file():
        seconds = time.perf_counter() - began
        measured = measure(base, [Questions.of(corpora[0])], options.beams)
        write_json(
            file,
            {
                "corpus": 0,
                "steps": manifest.metrics["steps"],
                "updates": manifest.metrics["examples"],
                "seconds": seconds,
                "performance": measured,
            },
        )
    return base, read_json(file)


def run_strategy(
    corpora: Sequence[Dataset],
    out: Path,
    options: ContinualOptions,
    strategy: str,
    seed: int,
    base: Path,
    first: dict[str, Any],
) -> None:
    """Grows one index by all increments, and measures it after each."""
    name = f"{strategy}-seed{seed}"
    results, index = out / "results" / name, out / "indexes" / name
    last = results / f"d{len(corpora) - 1}.json"
    if last.is_file():
        return
    if not index.is_dir():
        with replacing_folder(index) as fresh:
            shutil.copytree(base, fresh, copy_function=link_or_copy, dirs_exist_ok=True)
    write_json(results / "d0.json", first)
    questions = [Questions.of(corpus) for corpus in corpora]
    wanted = dataclasses.replace(with_changes(options.update, strategy), seed=seed)
    for number in range(1, len(corpora)):
        file = results / f"d{number}.json"
        if file.is_file():
            continue
        watchers = []
        curve = out / "curves" / name / f"d{number}.jsonl"
        if options.interval:
            asked = [some.sample(options.curve_queries, seed) for some in questions[: number + 1]]
            watchers = [Watch(asked, curve, options.interval, options.beams)]
        began = time.perf_counter()
        done = update_index(index, corpora[number], wanted, watchers=watchers)
        seconds = time.perf_counter() - began
        watched = sum(watch.seconds for watch in watchers)
        metrics = done.manifest.metrics
        value = {
            "corpus": number,
            "steps": metrics["steps"],
            "updates": metrics.get("examples", 0),
            "seconds": seconds - watched,
            "timing": dict(done.timing),
            "performance": measure(index, questions[: number + 1], options.beams),
        }
        write_json(file, value)
        for older in versions.names(index):
            if older != versions.live(index):
                shutil.rmtree(versions.folder(index, older))
    shutil.rmtree(index, ignore_errors=True)


def measure(index: Path, corpora: Sequence[Questions], beams: int | None) -> list[dict[str, float]]:
    """Asks an index for every corpus: Hits@1, Hits@10 and indexing accuracy of each.

    Indexing accuracy is the share of documents whose own text, cut off as in training, finds
    them first.
    """
    from dsi.index import Index
    from dsi.updating.update import training_options

    opened = Index.open(index)
    training = training_options(opened.manifest)
    found = []
    for some in corpora:
        ranks = asked(opened, some.queries, some.targets, opened.manifest.query_length, beams)
        own = asked(opened, some.texts, some.doc_ids, training.mix.document_length, beams)
        found.append(
            {
                "Hits@1": float((ranks <= 1).mean()),
                "Hits@10": float((ranks <= 10).mean()),
                "indexing": float((own <= 1).mean()),
            }
        )
    return found


def asked(
    index: Index, texts: Sequence[str], doc_ids: Sequence[str], length: int, beams: int | None
) -> np.ndarray:
    """Returns the rank of each text's document, infinite beyond the tenth; float64 [texts]."""
    from dsi.training.validation import DevQueries, ranks_of

    queries = DevQueries(
        index.text.encode(list(texts), length), index.table.find(list(doc_ids)).tolist()
    )
    return ranks_of(index.model, queries, index.trie, beams or index.manifest.beams)


class Watch:
    """Measures all corpora so far before an update and every few steps, into a JSONL file.

    Args:
        questions: What each corpus is asked, the newest last.
        file: Where to write a row for each evaluation.
        interval: Steps between evaluations.
        beams: Width of the search; None for the index's own.

    Attributes:
        seconds: How long the evaluations took.
    """

    def __init__(
        self, questions: Sequence[Questions], file: Path, interval: int, beams: int | None
    ) -> None:
        self.questions = questions
        self.file = file
        self.interval = interval
        self.beams = beams
        self.seconds = 0.0

    def __call__(self, update: Update, model: PreTrainedModel) -> Objective:
        """Returns the term, which costs nothing, that looks at the model of an update."""
        return _watching(self, update, model)

    def write(self, step: int, corpora: list[dict[str, Any]]) -> None:
        """Adds a row; a step that is made again after an interruption replaces its row."""
        rows = {row["step"]: row for row in read_curve(self.file)}
        rows[step] = {"step": step, "corpora": corpora}
        write_json_lines(self.file, [rows[number] for number in sorted(rows)])


def read_curve(file: Path) -> list[dict[str, Any]]:
    """Returns the evaluations during one update, oldest first; empty where there is no file."""
    return read_json_lines(file)


def _watching(watch: Watch, update: Update, network: PreTrainedModel) -> Objective:
    from docids.trie import Trie
    from dsi.objectives.base import Objective
    from dsi.search.torch_trie import TorchTrie
    from dsi.training.validation import DevQueries, ranks_of
    from dsi.updating.training import planned_steps

    table, steps = update.assignment.table, planned_steps(update)
    length, texts = update.manifest.query_length, update.training.mix.document_length
    queries = [
        DevQueries(update.text.encode(some.queries, length), table.find(some.targets).tolist())
        for some in watch.questions
    ]
    documents = [
        DevQueries(update.text.encode(some.texts, texts), table.find(some.doc_ids).tolist())
        for some in watch.questions
    ]
    beams = watch.beams or update.manifest.beams

    class Watching(Objective):
        name = "watch"

        def prepare(self, device: torch.device) -> None:
            self.trie = TorchTrie.from_trie(Trie.build(table), device)
            # Before any checkpoint: a run that continues from one has this row.
            if not read_curve(watch.file):
                self.look(0)

        def after_step(self, model: torch.nn.Module, step: int) -> None:
            if step + 1 in (1, steps) or (step + 1) % watch.interval == 0:
                self.look(step + 1)

        def look(self, done: int) -> None:
            began = time.perf_counter()
            rows = []
            for asked_for, own in zip(queries, documents, strict=True):
                ranks = ranks_of(network, asked_for, self.trie, beams)
                right = ranks_of(network, own, self.trie, beams) <= 1
                rows.append(
                    {
                        "Hits@1": float((ranks <= 1).mean()),
                        "Hits@10": float((ranks <= 10).mean()),
                        "indexed": "".join("1" if each else "0" for each in right.tolist()),
                    }
                )
            watch.write(done, rows)
            watch.seconds += time.perf_counter() - began

    return Watching()
