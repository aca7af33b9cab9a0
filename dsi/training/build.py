"""From a Dataset to an index: does every step that is missing, trains, writes the version."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.dataset import Dataset
from data_prep.errors import InputError
from data_prep.files import read_json, replacing_folder, write_json
from data_prep.generators import GENERATORS, GeneratorOptions
from data_prep.progress import note
from data_prep.rehearsal import RehearsalOptions
from docids.assignment import Assignment, text_of
from docids.code_learning.seq2seq import CodeVectors
from docids.embeddings import EmbeddingOptions
from docids.kinds import KINDS
from docids.kinds.options import KindOptions
from docids.kinds.quantisation import Quantised
from docids.pseudo_queries import queries_of
from dsi import versions
from dsi.generation.memory import IN_VERSION, GenerativeMemory
from dsi.objectives.options import TAUGHT, ObjectiveOptions
from dsi.text_encoder import PretrainedEncoder, SentencepieceEncoder, TextEncoder, VocabularyOptions
from dsi.training.log import check_wandb
from dsi.training.options import (
    BODY_SHARE,
    LoopOptions,
    LoraOptions,
    MixOptions,
    ModelOptions,
    OptimiserOptions,
    SamOptions,
)
from dsi.training.processes import Processes
from dsi.training.start import decided
from dsi.updating.memory import remember
from dsi.versions import Manifest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dsi.teachers.lessons import Lessons
    from dsi.training.examples import Examples
    from dsi.training.loop import Run
    from dsi.warm_starts import Codebooks

CODE_KINDS = ("semantic", "rq", "pq", "learned", "naive", "random")
"""Kinds of identifiers that are sequences of codes, and no text."""
FEWEST_LABELLED = 200
"""With fewer labelled training queries, nothing is learned from them about how people ask."""
_WHOLE_DOCUMENT = 1 << 20
_LESSONS = "lessons"
_CLAIM = "training.json"
"""The file in the working folder that says which run it belongs to."""


@dataclass(frozen=True)
class TrainingOptions(KindOptions):
    """All that decides an index besides the Dataset.

    Attributes:
        docids: Kind of identifiers: atomic, naive, semantic, rq, pq, learned, description,
            keywords, title, url or random.
        generator: Whose pseudo-queries: extractive, selective, none; auto takes selective where
            there are enough labelled queries to learn from, else extractive. Those of seq2seq
            and memory must have been made with `dsi queries`, and are used as they are.
        per_doc: Pseudo-queries per document.
        seed: Of everything drawn at random.
        embedding: How documents become vectors, for semantic, random, rq, pq and learned.
        model: The network.
        vocabulary: The vocabulary of a model from scratch.
        mix: What a batch is made of.
        rehearsal: What the indexing task reads besides documents.
        objectives: What the loss is made of.
        optimiser: How weights move.
        lora: Low-rank adapters.
        loop: How long, how large, how precise.
        sam: Sharpness-aware minimisation.
    """

    docids: str = "atomic"
    generator: str = "auto"
    per_doc: int = 40
    seed: int = 0
    embedding: EmbeddingOptions = field(default_factory=EmbeddingOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    vocabulary: VocabularyOptions = field(default_factory=VocabularyOptions)
    mix: MixOptions = field(default_factory=MixOptions)
    rehearsal: RehearsalOptions = field(default_factory=RehearsalOptions)
    objectives: ObjectiveOptions = field(default_factory=ObjectiveOptions)
    optimiser: OptimiserOptions = field(default_factory=OptimiserOptions)
    lora: LoraOptions = field(default_factory=LoraOptions)
    loop: LoopOptions = field(default_factory=LoopOptions)
    sam: SamOptions = field(default_factory=SamOptions)

    def __post_init__(self) -> None:
        known = {"docids": list(KINDS), "generator": ["auto", "none", *GENERATORS]}
        for name, choices in known.items():
            if getattr(self, name) not in choices:
                raise InputError(
                    f"--{name} {getattr(self, name)!r} is unknown",
                    mend=f"Choose from: {', '.join(choices)}",
                )
        GeneratorOptions(per_doc=self.per_doc, seed=self.seed)
        self.of_kind(self.docids)
        self._check_objectives()
        self._check_body()
        self._check_tokens()
        self._check_head()
        if self.optimiser.rows == "touched" and self.sam.rho:
            raise InputError(
                f"--sam.rho {self.sam.rho} perturbs all weights, and --optimiser.rows touched has "
                "gradients of some rows only",
                mend="Leave one of them out",
            )
        if self.loop.wandb is not None:
            check_wandb(self.loop.wandb)

    def _check_body(self) -> None:
        """Refuses ways to move the body of the network where it is frozen."""
        body = self.optimiser.body
        if body is None and not self.lora.rank:
            lexical = self.model.start == "spectral" and self.docids == "atomic"
            body = 0.0 if lexical else BODY_SHARE
        ways = {
            f"--lora.rank {self.lora.rank}": self.lora.rank > 0,
            f"--optimiser.layer_decay {self.optimiser.layer_decay}": self.optimiser.layer_decay < 1,
        }
        for way, taken in ways.items():
            if taken and body == 0:
                raise InputError(
                    f"{way} is about the body of the network, which --optimiser.body 0 freezes",
                    mend="Give --optimiser.body a share, for example 1, or leave the other out",
                )

    def _check_head(self) -> None:
        """Refuses an output layer of codes before where there are none."""
        if self.model.head == "linear":
            return
        if self.docids not in CODE_KINDS:
            raise InputError(
                f"--model.head {self.model.head} is about identifiers of several codes of one "
                f"alphabet, and --docids {self.docids} gives "
                + ("one code" if self.docids == "atomic" else "text"),
                mend=f"Choose --docids from: {', '.join(CODE_KINDS)}; or --model.head linear",
            )
        if self.lora.rank:
            raise InputError(
                f"--model.head {self.model.head} and --lora.rank {self.lora.rank} do not go "
                "together: a search runs the adapted output layer on plain layers only",
                mend="Leave one of them out",
            )

    def _check_tokens(self) -> None:
        """Refuses a budget of tokens that one text may exceed."""
        read = {"query_length": self.mix.pseudo or self.mix.labelled}
        read["document_length"] = self.mix.shares["indexing"]
        for name, share in read.items():
            length = getattr(self.mix, name)
            if share and self.loop.tokens is not None and self.loop.tokens < length:
                raise InputError(
                    f"--loop.tokens {self.loop.tokens} is less than one text of --mix.{name} "
                    f"{length}",
                    mend=f"Give {length} or more, many times that for a batch of many texts",
                )

    def _check_objectives(self) -> None:
        """Refuses terms of the loss that the other options leave nothing to work on."""
        weights = self.objectives.weights
        scratch = self.model.pretrained is None and self.model.start != "learned"
        if weights["r_drop"] and scratch and not self.model.dropout:
            raise InputError(
                f"--objectives.r_drop.weight {weights['r_drop']} compares two passes through "
                "dropout, and --model.dropout is 0",
                mend="Give --model.dropout 0.1, or leave the term out",
            )
        if not self.objectives.taught:
            return
        asking = next(name for name in TAUGHT if weights[name])
        if self.loop.score == "constrained":
            raise InputError(
                f"--objectives.{asking}.weight {weights[asking]} is about probabilities over the "
                "whole alphabet, and --loop.score is constrained",
                mend="Take --loop.score model, or leave the term out",
            )
        if not (self.mix.pseudo or self.mix.labelled):
            raise InputError(
                f"--objectives.{asking}.weight {weights[asking]} asks a teacher about queries, "
                "and --mix.pseudo and --mix.labelled are 0",
                mend="Give queries a share, or leave the term out",
            )


def train_index(
    dataset: Dataset,
    out: Path,
    options: TrainingOptions,
    docids_folder: Path | None = None,
    memory_folder: Path | None = None,
    deepspeed: Path | None = None,
) -> Manifest:
    """Trains an index; run again after an interruption, it continues.

    Under `torchrun`, the first process writes all files.

    Args:
        dataset: The corpus, and the queries there are.
        out: The index folder. Its `training/` holds what is under way and is removed when the
            first version is live.
        options: How.
        docids_folder: Identifiers that exist already, as `dsi docids` wrote them; None to
            assign those of `options.docids`.
        memory_folder: A generative memory to keep with the index; None for the dataset's own,
            where it has one.
        deepspeed: A DeepSpeed configuration; None for DDP. It says how the work is shared out,
            not what is computed: a run may continue with another one, or without.

    Returns:
        The manifest of the version that is live now.

    Raises:
        InputError: The folder holds an index or a run of other options, an option does not fit
            the data, or the loss is no finite number.
    """
    options = decided(options, docids_folder)
    wanted = _fingerprint(dataset, options, docids_folder)
    memory = GenerativeMemory.find(dataset, memory_folder)
    check_codebooks(options, docids_folder)
    zero = None
    if deepspeed is not None:
        from dsi.training.engines.zero import read_zero_config

        zero = read_zero_config(deepspeed)
    if out.exists() and not out.is_dir():
        raise InputError("this is a file, not a folder", where=out, mend="Choose another --out")
    processes = Processes()
    finished = processes.first_before_others(lambda: _finished(out, wanted))
    if finished is not None:
        return finished
    work = out / "training"
    with contextlib.ExitStack() as stack:
        writer = processes.first_alone(lambda: stack.enter_context(versions.lock(out)))
        processes.first_alone(lambda: _claim(work, wanted))
        parts = processes.first_before_others(
            lambda: _prepare(dataset, work, options, docids_folder)
        )
        run = processes.together(lambda: _make_run(dataset, work, options, parts))
        run = replace(run, deepspeed=zero)
        from dsi.training.loop import train_loop
        from dsi.training.lora import merge_adapters

        reached = train_loop(run)
        merge_adapters(run.model)

        def write() -> None:
            assert writer is not None
            with writer.version() as fresh:
                _write(fresh, dataset, options, parts, run.model, reached, wanted)
                _keep_logs(work, fresh / "log")
                if memory is not None:
                    shutil.copytree(memory, fresh / IN_VERSION)
            shutil.rmtree(work, ignore_errors=True)

        processes.first_alone(write)
    return Manifest.load(versions.folder(out, versions.live(out)))


@dataclass(frozen=True)
class _Parts:
    """What training stands on, made once and kept for a run that continues."""

    text: TextEncoder
    assignment: Assignment
    titles: list[str]
    tokens: list[list[int]]
    title_tokens: list[list[int]]
    generator: str | None
    checkpoint: str | None = None
    codebooks: Codebooks | None = None
    codes: CodeVectors | None = None


def _fingerprint(
    dataset: Dataset, options: TrainingOptions, docids_folder: Path | None
) -> dict[str, Any]:
    """What decides the outcome: two runs of one fingerprint end in the same weights."""
    given = None if docids_folder is None else read_json(docids_folder / "docids.json")
    return {
        "dataset": {"name": dataset.info.name, "content_hash": dataset.info.content_hash},
        "options": asdict(options),
        "given_docids": given,
    }


def _finished(out: Path, wanted: Mapping[str, Any]) -> Manifest | None:
    """Returns the live manifest where this very training has been done already.

    Raises:
        InputError: The folder holds an index of other options, or something else.
    """
    work = out / "training"
    if (out / "live").is_file():
        manifest = Manifest.load(versions.folder(out, versions.live(out)))
        # Updates that came since say so beside what the first version was made of.
        made = {name: part for name, part in manifest.configuration.items() if name != "update"}
        if made != wanted:
            raise InputError(
                "an index of another dataset or other options is here",
                where=out,
                mend="Choose another --out, or remove this folder",
            )
        # A training that was killed after its last step but one has left this.
        shutil.rmtree(work, ignore_errors=True)
        return manifest
    if out.is_dir() and not (work / _CLAIM).is_file():
        found = {entry.name for entry in out.iterdir()}
        inside = [entry.name for entry in work.iterdir()] if work.is_dir() else []
        if not found <= {"lock", "versions", "training"} or not all(
            name.startswith(f".{_CLAIM}.") for name in inside
        ):
            raise InputError(
                "this folder holds something that is not an index",
                where=out,
                mend="Choose another --out; this one is left as it is",
            )
    return None


def _claim(work: Path, wanted: Mapping[str, Any]) -> None:
    """Makes the working folder this run's own.

    Raises:
        InputError: A run of other options was interrupted there.
    """
    file = work / _CLAIM
    if not file.is_file():
        write_json(file, wanted)
    elif read_json(file) != wanted:
        raise InputError(
            "a training run of another dataset or other options was interrupted here",
            where=work,
            mend="Run it again with its own options, remove this folder, or choose another --out",
        )


def _prepare(
    dataset: Dataset, work: Path, options: TrainingOptions, docids_folder: Path | None
) -> _Parts:
    """Does the steps before training that are missing; what is there is used."""
    documents = list(dataset.documents())
    titles = [document.title for document in documents]
    texts = text_of(titles, (document.text for document in documents))
    doc_ids = [document.doc_id for document in documents]
    learned = options.model.start == "learned"
    # The tokenizer of learned identifiers comes with them; any other can be missing: it is first.
    text = None if learned else _text_encoder(texts, work, options)
    generator = _pseudo_queries(dataset, options)
    ask = queries_of(dataset, generator or "extractive")
    urls = [document.url for document in documents]
    assignment = _docids(doc_ids, titles, urls, texts, ask, dataset, work, options, docids_folder)
    checkpoint = str(assignment.built.model) if learned else options.model.pretrained
    if text is None:
        note("training starts from the model that the identifiers were trained with")
        text = PretrainedEncoder.from_checkpoint(str(checkpoint))
    _ask_teacher(dataset, doc_ids, texts, assignment, generator, work, options)
    longest = _WHOLE_DOCUMENT if checkpoint is None else 512
    tokens, encoded = text.encode(texts, longest), text.encode(titles, longest)
    title_tokens = [
        line if title.strip() else [] for line, title in zip(encoded, titles, strict=True)
    ]
    # Rows of the table are the order in which everything after this counts documents.
    order = {doc_id: number for number, doc_id in enumerate(doc_ids)}
    picked = [order[doc_id] for doc_id in assignment.table.doc_ids]
    return _Parts(
        text,
        assignment,
        [titles[number] for number in picked],
        [tokens[number] for number in picked],
        [title_tokens[number] for number in picked],
        generator,
        checkpoint,
        _codebooks(assignment, [texts[number] for number in picked], options),
        CodeVectors.of(assignment.built.extras) if learned else None,
    )


def check_codebooks(options: TrainingOptions, docids_folder: Path | None) -> None:
    """Refuses codebooks as the start of rows where the identifiers have none."""
    kind = options.docids
    if docids_folder is not None and (docids_folder / "docids.json").is_file():
        kind = read_json(docids_folder / "docids.json")["kind"]
    if options.model.codebooks and not isinstance(KINDS[kind], Quantised):
        raise InputError(
            f"--model.codebooks true is about identifiers with codebooks, and these are {kind!r}",
            mend="Take --docids rq or --docids pq, or leave it out",
        )


def _codebooks(
    assignment: Assignment, texts: list[str], options: TrainingOptions
) -> Codebooks | None:
    kind = KINDS[assignment.table.kind]
    if not (options.model.codebooks and isinstance(kind, Quantised)):
        return None
    from dsi.warm_starts import Codebooks

    vectors = assignment.embed(texts)
    return Codebooks(kind.codewords(assignment.built, vectors.shape[1]), vectors)


def _docids(
    doc_ids: list[str],
    titles: list[str],
    urls: list[str],
    texts: list[str],
    ask: Callable[[str], list[list[str]]],
    dataset: Dataset,
    work: Path,
    options: TrainingOptions,
    given: Path | None,
) -> Assignment:
    if given is not None:
        assignment = Assignment.open(given)
        if sorted(assignment.table.doc_ids) != sorted(doc_ids):
            raise InputError(
                "these identifiers are of other documents than the dataset's",
                where=given,
                mend=f"Assign them again: dsi docids {dataset.path} --out {given}",
            )
        return assignment
    folder = work / "docids"
    if not (folder / "docids.json").is_file():
        from docids.assignment import assign

        origin = {"dataset": dataset.info.name, "content_hash": dataset.info.content_hash}
        assignment, quality = assign(
            doc_ids,
            texts,
            kind=options.docids,
            options=options.of_kind(options.docids),
            embedding=options.embedding,
            seed=options.seed,
            origin=origin,
            titles=titles,
            urls=urls,
            queries=ask,
            scratch=work / "assigning",
        )
        assignment.save(folder, quality)
    return Assignment.open(folder)


def _pseudo_queries(dataset: Dataset, options: TrainingOptions) -> str | None:
    """Generates pseudo-queries unless they are there; returns whose are to be used."""
    if options.generator == "none" or not options.mix.pseudo:
        return None
    from data_prep.generate import generate_queries, used_as_they_are

    name = options.generator
    if name == "auto":
        enough = dataset.info.qrels.get("train", 0) >= FEWEST_LABELLED
        name = "selective" if enough else "extractive"
    if used_as_they_are(dataset, name):
        return name
    chosen = GENERATORS[name].options_class(per_doc=options.per_doc, seed=options.seed)
    generate_queries(dataset, name, chosen)
    return name


def _ask_teacher(
    dataset: Dataset,
    doc_ids: list[str],
    texts: list[str],
    assignment: Assignment,
    generator: str | None,
    work: Path,
    options: TrainingOptions,
) -> None:
    """Asks the teacher about every training query, unless that is done or no term wants it."""
    folder = work / _LESSONS
    if not options.objectives.taught or (folder / "lessons.json").is_file():
        return
    from dsi.teachers import TEACHERS
    from dsi.teachers.lessons import teach
    from dsi.training.examples import task_queries

    table = assignment.table
    if not table.one_each:
        asking = next(name for name in TAUGHT if options.objectives.weights[name])
        raise InputError(
            f"--objectives.{asking}.weight {options.objectives.weights[asking]} asks a teacher "
            "about documents with one identifier, and here some have several",
            mend="Leave the term out, or take a kind that gives one identifier to each",
        )
    order = {doc_id: number for number, doc_id in enumerate(doc_ids)}
    in_rows = [texts[order[doc_id]] for doc_id in table.doc_ids]
    asked = task_queries(dataset, table, options.mix, generator)
    known = options.objectives.teacher
    teacher = TEACHERS[known.kind](in_rows, known.model, options.vocabulary.language)
    teach(
        folder,
        teacher,
        [query for queries, _ in asked.values() for query in queries],
        np.concatenate([rows for _, rows in asked.values()]),
        known.candidates,
    )


def _text_encoder(texts: list[str], work: Path, options: TrainingOptions) -> TextEncoder:
    if options.model.pretrained is not None:
        return PretrainedEncoder.from_checkpoint(options.model.pretrained)
    folder = work / "text"
    if not (folder / "text.json").is_file():
        with replacing_folder(folder) as fresh:
            SentencepieceEncoder.train(texts, options.vocabulary).save(fresh)
    return TextEncoder.open(folder)


def _make_run(dataset: Dataset, work: Path, options: TrainingOptions, parts: _Parts) -> Run:
    import torch

    from docids.trie import Trie
    from dsi.backbone import drops
    from dsi.objectives.base import Targets
    from dsi.objectives.terms import make_objectives
    from dsi.search.torch_trie import TorchTrie
    from dsi.training.batching import Batches
    from dsi.training.checkpoints import steps_saved
    from dsi.training.examples import gather_examples, labelled_rows, per_identifier, task_shares
    from dsi.training.loop import Run

    table = parts.assignment.table
    examples = gather_examples(
        dataset,
        parts.tokens,
        table,
        parts.text,
        options.mix,
        generator=parts.generator,
        seed=options.seed,
        rehearsal=options.rehearsal,
    )
    examples = {task: per_identifier(each, table) for task, each in examples.items()}
    shares = task_shares(options.mix, options.rehearsal)
    labelled = None
    if options.mix.negatives == "labelled" and "labelled" in examples:
        labelled, _ = table.numbers_of(labelled_rows(dataset, table))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trie = TorchTrie.from_trie(Trie.build(table), device)
    model: Any = _make_model(options, parts, fresh=not steps_saved(work / "checkpoints"))
    if options.objectives.r_drop.weight and not drops(model):
        raise InputError(
            f"--objectives.r_drop.weight {options.objectives.r_drop.weight} compares two passes "
            f"through dropout, and {parts.checkpoint!r} has none",
            mend="Leave the term out",
        )
    return Run(
        model=model.to(device),
        batches=Batches(
            examples, shares, options.loop.size, options.seed, tokens=options.loop.tokens
        ),
        targets=Targets.of(
            table.matrix(),
            table.alphabet_size,
            labelled,
            trie if options.loop.score == "constrained" else None,
        ),
        objectives=make_objectives(
            options.objectives,
            label_smoothing=options.loop.label_smoothing,
            lessons=_lessons(work, examples, options),
        ),
        trie=trie,
        dev=_dev_queries(dataset, parts, options),
        documents=_watched_documents(parts, options),
        optimiser=optimiser_of(options, table.kind),
        loop=options.loop,
        seed=options.seed,
        folder=work,
        sam=options.sam,
    )


def _lessons(
    work: Path, examples: Mapping[str, Examples], options: TrainingOptions
) -> Lessons | None:
    """Opens what the teacher said, where it was asked."""
    if not options.objectives.taught:
        return None
    from dsi.teachers.lessons import Lessons

    first = len(examples.get("indexing", ()))
    lessons = Lessons.open(work / _LESSONS, options.objectives.teacher.temperature, first)
    assert len(lessons.rows) == sum(len(examples.get(task, ())) for task in ("pseudo", "labelled"))
    return lessons


def body_share(options: TrainingOptions, kind: str) -> float:
    """The share of the learning rate for the body of the network, where none was asked for.

    With one code a document, a lexical model has nothing to learn between words and documents
    that their own rows could not hold, and moving the body costs accuracy and time.
    """
    if options.optimiser.body is not None:
        return options.optimiser.body
    return 0.0 if options.model.start == "spectral" and kind == "atomic" else BODY_SHARE


def optimiser_of(options: TrainingOptions, kind: str) -> OptimiserOptions:
    """Returns how weights move in the first training, with the body's share decided."""
    share = body_share(options, kind)
    if options.lora.rank and options.optimiser.body is None:
        share = 1.0  # adapters are few and start from nothing
    return replace(options.optimiser, body=share)


def _make_model(options: TrainingOptions, parts: _Parts, *, fresh: bool) -> PreTrainedModel:
    """Builds or loads the network; a run that continues from a checkpoint needs no warm start."""
    from dsi.backbone import from_pretrained, from_scratch, longest_text

    table = parts.assignment.table
    if parts.checkpoint is not None:
        model = from_pretrained(
            parts.checkpoint,
            alphabet_size=table.alphabet_size,
            decoder_layers=options.model.decoder_layers,
            seed=options.seed,
        )
        positions = longest_text(model)
        for name in ("query_length", "document_length"):
            wanted = getattr(options.mix, name)
            if positions is not None and wanted > positions:
                raise InputError(
                    f"--mix.{name} {wanted} is more than the {positions} tokens that "
                    f"{parts.checkpoint!r} reads",
                    mend=f"Give {positions} or less",
                )
    else:
        model = from_scratch(
            options.model.size,
            text_vocabulary=parts.text.vocabulary_size,
            alphabet_size=table.alphabet_size,
            documents=len(table),
            dropout=options.model.dropout,
            seed=options.seed,
        )
    if fresh:
        from dsi.warm_starts import WARM_STARTS, Corpus

        corpus = Corpus(
            parts.tokens,
            table,
            parts.title_tokens,
            options.model.title_weight,
            parts.codebooks,
            parts.codes,
        )
        WARM_STARTS[options.model.start](model, corpus, options.seed)
    return with_extras(model, options)


def with_extras(model: PreTrainedModel, options: TrainingOptions) -> PreTrainedModel:
    """Gives a network, in place, what options put beside its own layers."""
    if options.model.head == "pawa":
        from dsi.pawa import add_pawa

        model = add_pawa(model, options.model.head_layers, seed=options.seed)
    if options.lora.rank:
        from dsi.training.lora import add_adapters

        add_adapters(
            model,
            options.lora,
            seed=options.seed,
            encoder=not options.optimiser.freeze_encoder,
        )
    return model


def _dev_queries(dataset: Dataset, parts: _Parts, options: TrainingOptions) -> Any:
    """Returns a seeded sample of the dev split, or None where it is empty."""
    from dsi.training.validation import DevQueries

    texts = dataset.query_texts()
    pairs = [
        (texts[query_id], max(relevant, key=lambda doc_id: relevant[doc_id]))
        for query_id, relevant in dataset.qrels_of("dev").items()
        if query_id in texts and max(relevant.values()) > 0
    ]
    if not pairs:
        return None
    rng = np.random.default_rng([options.seed, 8])
    picked = rng.permutation(len(pairs))[: options.loop.evaluate_queries]
    tokens = parts.text.encode([pairs[number][0] for number in picked], options.mix.query_length)
    rows = parts.assignment.table.find([pairs[number][1] for number in picked])
    return DevQueries(tokens, rows.tolist())


def _watched_documents(parts: _Parts, options: TrainingOptions) -> Any:
    """Returns a seeded sample of the documents, or None where none are to be watched."""
    from dsi.training.validation import DevQueries

    if not options.loop.evaluate_documents:
        return None
    rng = np.random.default_rng([options.seed, 9])
    rows = rng.permutation(len(parts.tokens))[: options.loop.evaluate_documents].tolist()
    length = options.mix.document_length
    return DevQueries([parts.tokens[row][:length] for row in rows], rows)


def _keep_logs(work: Path, folder: Path) -> None:
    """Copies what was measured during training into the version: curves and evaluations."""
    folder.mkdir()
    shutil.copytree(work / "tensorboard", folder / "tensorboard")
    evaluations = work / "evaluations.jsonl"
    if evaluations.is_file():
        shutil.copy(evaluations, folder)
    if (work / "wandb").is_dir():
        # A run made offline is uploaded later, from here. Its links are conveniences.
        shutil.copytree(work / "wandb", folder / "wandb", ignore=_links)


def _links(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_symlink()]


def _write(
    folder: Path,
    dataset: Dataset,
    options: TrainingOptions,
    parts: _Parts,
    model: PreTrainedModel,
    reached: Mapping[str, Any],
    configuration: Mapping[str, Any],
) -> None:
    """Writes a version, and with it what later versions need to name new documents."""
    from dsi.index import write_parts

    table = parts.assignment.table
    write_parts(folder, model=model, text=parts.text, table=table, titles=parts.titles)
    parts.assignment.save(folder / "assignment")
    remember(folder, dataset, parts.generator)
    Manifest(
        documents=len(table),
        added=len(table),
        origin=f"trained on {dataset.info.name}",
        dataset={"name": dataset.info.name, "content_hash": dataset.info.content_hash},
        configuration=configuration,
        metrics=dict(reached),
        query_length=options.mix.query_length,
        beams=options.loop.beams,
        score=options.loop.score,
    ).save(folder)
