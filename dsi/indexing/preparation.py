"""Runs missing preparation steps before training, from the vocabulary to the lexical layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from data_prep.dataset import Dataset, Document
from data_prep.errors import InputError, command_line
from data_prep.evidence import judged_examples
from data_prep.files import read_json, replacing_folder
from data_prep.generators import GENERATORS
from data_prep.progress import note
from docids.assignment import Assignment
from docids.code_learning.encoder_decoder import CodeVectors
from docids.kinds import KINDS, kinds_where
from docids.kinds.quantization import Quantized
from docids.model_tokens import ModelTokens
from docids.pseudo_queries import queries_of
from docids.table import DocidTable
from dsi.backbones.document_vectors import vectors_of
from dsi.data.options import MixOptions
from dsi.indexing.options import TrainingOptions
from dsi.indexing.own_tokens import vocabulary_of, with_own_tokens, with_start_token
from dsi.indexing.start import MIN_LABELED_QUERIES, default_generator
from dsi.objectives.options import TEACHER_TERMS
from dsi.text_encoders.stored_text_encoder import open_text_encoder
from dsi.text_encoders.text_encoder import (
    PretrainedEncoder,
    SentencepieceEncoder,
    TextEncoder,
    checkpoint_tokenizer,
)
from dsi.text_encoders.tokenized_corpus import TokenizedCorpus, in_row_order

if TYPE_CHECKING:
    from dsi.lexical.labeled_queries import LabeledQueries
    from dsi.lexical.layer import LexicalLayer
    from dsi.rows import Codebooks

TEACHER_SCORES = "teacher_scores"
"""Folder of the teacher scores in the working folder."""
LEXICAL = "lexical"
"""Folder of the lexical layer, in the working folder and in a version."""
LEARNING = "assigning"
"""Working folder of learned identifiers."""
VECTORS = "vectors"
"""Folder of the document vectors of a pretrained encoder, in the working folder."""


@dataclass(frozen=True)
class TrainingInputs:
    """Inputs of training, computed once and reused when a run resumes.

    Attributes:
        assignment: The identifiers; all other fields follow the row order of its table.
        documents: The documents, with the text encoder.
        generator: Generator of the pseudo-queries used in training; None for none.
        checkpoint: Hub id or folder of the model that training starts from; None from scratch.
        codebooks: Codebooks of the identifiers, if the code rows are initialized from them.
        codes: Code rows provided by learned identifiers.
        lexical: The lexical layer; None without one.
        vectors: Document vectors of `options.model.encoder`; float32 [documents, width]. None
            without an encoder.
        code_tokens: The token whose rows each code of a language model starts from; int64
            [alphabet], -1 for none. None for any other network.
    """

    assignment: Assignment
    documents: TokenizedCorpus
    generator: str | None
    checkpoint: str | None = None
    codebooks: Codebooks | None = None
    codes: CodeVectors | None = None
    lexical: LexicalLayer | None = None
    vectors: npt.NDArray[np.float32] | None = None
    code_tokens: npt.NDArray[np.int64] | None = None

    @property
    def text(self) -> TextEncoder:
        """The text encoder."""
        return self.documents.text


def prepare(
    dataset: Dataset, work: Path, options: TrainingOptions, docids_folder: Path | None
) -> TrainingInputs:
    """Runs the missing steps before training and reuses existing results.

    Args:
        dataset: The corpus and its queries; pseudo-queries are written into it.
        work: Working folder.
        options: Training options.
        docids_folder: Existing identifiers; None to assign those of the options.

    Raises:
        InputError: Identifiers belong to other documents, a model cannot be loaded, or an option
            does not fit the data.
    """
    documents = list(dataset.documents())
    learned = options.model.start == "learned"
    # Learned identifiers come with their tokenizer; any other may be missing, so it is made first.
    encoder = None
    if options.model.encoder is not None:
        from dsi.backbones.loaded_encoder import load_encoder

        encoder = load_encoder(options.model.encoder)
    text: TextEncoder | None = None
    if not learned:
        text = _text_encoder(documents, work, options) if encoder is None else encoder.text
    generator = _pseudo_queries(dataset, options)
    ask = queries_of(dataset, generator or "extractive")
    own = options.model.start == "tokens"
    named = vocabulary_of(text, str(options.model.pretrained)) if own and text else None
    assignment = _docids(documents, ask, dataset, work, options, docids_folder, named)
    checkpoint = str(assignment.built.model) if learned else options.model.pretrained
    code_tokens = None
    if own and text is not None:
        text, code_tokens = with_own_tokens(text, assignment.built, str(checkpoint))
    elif text is not None:
        text, code_tokens = with_start_token(text, assignment.table.alphabet_size)
    if text is None:
        note("training starts from the model that the identifiers were trained with")
        text = PretrainedEncoder.from_checkpoint(str(checkpoint))
    if not any(text.has_known_words([document.title_and_text])[0] for document in documents):
        raise InputError(
            f"the tokenizer of {checkpoint or options.model.encoder!r} does not cover any word of "
            "the documents",
            hint="Use a checkpoint for the language of the corpus, or check that its tokenizer's "
            "files are complete",
        )
    documents = in_row_order(documents, assignment.table)
    _ask_teacher(dataset, documents, assignment.table, generator, work, options)
    corpus = TokenizedCorpus.of(documents, assignment.table, text)
    vectors = None
    if encoder is not None:
        import torch

        network = encoder.encoder.to("cuda" if torch.cuda.is_available() else "cpu")
        vectors = vectors_of(network, corpus.tokens, work / VECTORS)
    return TrainingInputs(
        assignment,
        corpus,
        generator,
        checkpoint,
        _codebooks(assignment, documents, options),
        CodeVectors.of(assignment.built.extras) if learned else None,
        _lexical(dataset, documents, assignment.table, generator, work, options),
        vectors,
        code_tokens,
    )


def _lexical(
    dataset: Dataset,
    documents: Sequence[Document],
    table: DocidTable,
    generator: str | None,
    work: Path,
    options: TrainingOptions,
) -> LexicalLayer | None:
    """Builds the lexical layer unless it exists.

    Args:
        dataset: The corpus and its queries.
        documents: The documents, in the row order of the table.
        table: The identifiers.
        generator: Generator of the pseudo-queries used in training; None for none.
        work: Working folder.
        options: Training options.
    """
    if not options.lexical.enabled:
        return None
    from dsi.lexical.layer_builder import LexicalIndex, open_layer

    folder = work / LEXICAL
    if not (folder / "source").is_dir():
        LexicalIndex.build(
            documents,
            language=options.vocabulary.language,
            options=options.lexical,
            labeled=_learned_from(dataset, table, generator, options.mix),
            dev=_judged(dataset, table, "dev", options.mix),
            seed=options.seed,
            appended=_judged(dataset, table, "train", options.mix),
        ).save(folder)
    return open_layer(folder)


def _learned_from(
    dataset: Dataset, table: DocidTable, generator: str | None, mix: MixOptions
) -> LabeledQueries:
    """Returns the queries that the lexical layer learns from; none if there are too few.

    These are the labeled queries or, if there are too few, pseudo-queries of a model.
    Pseudo-queries extracted from documents say nothing about how users phrase queries.
    """
    labeled = _judged(dataset, table, "train", mix)
    if len(labeled) >= MIN_LABELED_QUERIES:
        return labeled
    if generator is not None and GENERATORS[generator].expensive:
        written = dataset.pseudo_queries(generator)
        texts, doc_ids = written["text"], written["doc_id"]
        if len(texts) >= MIN_LABELED_QUERIES:
            return _queries_with_rows(list(texts), list(doc_ids), table)
    return labeled.part(np.zeros(0, np.int64))


def _judged(dataset: Dataset, table: DocidTable, split: str, mix: MixOptions) -> LabeledQueries:
    """Returns the queries of a split with their documents, and those of later hops of chains."""
    pairs = judged_examples(dataset, split, mix.chains, mix.query_length)
    return _queries_with_rows([text for text, _ in pairs], [doc_id for _, doc_id in pairs], table)


def _queries_with_rows(texts: list[str], doc_ids: list[str], table: DocidTable) -> LabeledQueries:
    """Returns queries with the rows of their documents, without those of other documents."""
    from dsi.lexical.labeled_queries import LabeledQueries

    rows = table.find(doc_ids)
    return LabeledQueries(texts, rows).part(np.flatnonzero(rows >= 0))


def check_codebooks(options: TrainingOptions, docids_folder: Path | None) -> None:
    """Refuses initialization from codebooks if the identifiers have none.

    Args:
        options: Training options.
        docids_folder: Existing identifiers; None to assign those of the options.

    Raises:
        InputError: Codebooks are requested, but there are none.
    """
    kind = options.docids
    if docids_folder is not None and (docids_folder / "docids.json").is_file():
        kind = read_json(docids_folder / "docids.json")["kind"]
    if options.model.codebooks and not isinstance(KINDS[kind], Quantized):
        fitting = kinds_where(lambda each: isinstance(each, Quantized))
        raise InputError(
            f"--model.codebooks true requires identifiers with codebooks, but these are {kind!r}",
            hint=f"Use {' or '.join(f'--docids {name}' for name in fitting)}, or omit it",
        )


def _codebooks(
    assignment: Assignment, documents: Sequence[Document], options: TrainingOptions
) -> Codebooks | None:
    kind = KINDS[assignment.table.kind]
    if not (options.model.codebooks and isinstance(kind, Quantized)):
        return None
    from dsi.rows import Codebooks

    vectors = assignment.embed([document.title_and_text for document in documents])
    return Codebooks(kind.codewords(assignment.built, vectors.shape[1]), vectors)


def _docids(
    documents: Sequence[Document],
    ask: Callable[[str], list[list[str]]],
    dataset: Dataset,
    work: Path,
    options: TrainingOptions,
    given: Path | None,
    model_tokens: ModelTokens | None = None,
) -> Assignment:
    if given is not None:
        assignment = Assignment.open(given)
        if sorted(assignment.table.doc_ids) != sorted(document.doc_id for document in documents):
            raise InputError(
                "these identifiers belong to other documents than those of the dataset",
                where=given,
                hint="Assign them again: " + command_line("docids", dataset.path, "--out", given),
            )
        return assignment
    folder = work / "docids"
    if not (folder / "docids.json").is_file():
        from docids.assignment import assign

        origin = {"dataset": dataset.info.name, "content_hash": dataset.info.content_hash}
        assignment, quality = assign(
            documents,
            kind=options.docids,
            options=options.of_kind(options.docids),
            embedding=options.embedding,
            seed=options.seed,
            origin=origin,
            queries=ask,
            scratch=work / LEARNING,
            reserve=options.reserve,
            model_tokens=model_tokens,
        )
        assignment.save(folder, quality)
    return Assignment.open(folder)


def _pseudo_queries(dataset: Dataset, options: TrainingOptions) -> str | None:
    """Generates pseudo-queries unless they exist; returns the name of their generator."""
    if options.generator == "none" or not options.mix.pseudo or not options.loop.total:
        return None
    from data_prep.generate import are_reused, generate_queries

    name = options.generator
    if name == "auto":
        name = default_generator(dataset)
    if are_reused(dataset, name):
        return name
    chosen = GENERATORS[name].options_class(per_doc=options.per_doc, seed=options.seed)
    generate_queries(dataset, name, chosen)
    return name


def _ask_teacher(
    dataset: Dataset,
    documents: Sequence[Document],
    table: DocidTable,
    generator: str | None,
    work: Path,
    options: TrainingOptions,
) -> None:
    """Computes teacher scores of all training queries, unless done or not needed by the loss."""
    folder = work / TEACHER_SCORES
    if not options.objectives.needs_teacher or (folder / "teacher_scores.json").is_file():
        return
    from dsi.data.examples import task_queries
    from dsi.teachers import TEACHERS
    from dsi.teachers.scores import write_teacher_scores

    if not table.one_each:
        asking = next(name for name in TEACHER_TERMS if options.objectives.weights[name])
        raise InputError(
            f"--objectives.{asking}.weight {options.objectives.weights[asking]} requires "
            "one identifier per document, but some documents have several",
            hint="Omit the term, or use a kind that assigns one identifier to each",
        )
    asked = task_queries(dataset, table, options.mix, generator)
    known = options.objectives.teacher
    texts = [document.title_and_text for document in documents]
    teacher = TEACHERS[known.kind](texts, known.model, options.vocabulary.language)
    write_teacher_scores(
        folder,
        teacher,
        [query for queries, _ in asked.values() for query in queries],
        np.concatenate([rows for _, rows in asked.values()]),
        known.candidates,
    )


def _text_encoder(
    documents: Sequence[Document], work: Path, options: TrainingOptions
) -> TextEncoder:
    if options.model.pretrained is not None:
        return _tokenizer(options.model.pretrained, options.model.prompt)
    folder = work / "text"
    if not (folder / "text.json").is_file():
        texts = [document.title_and_text for document in documents]
        with replacing_folder(folder) as fresh:
            SentencepieceEncoder.train(texts, options.vocabulary).save(fresh)
    return open_text_encoder(folder)


def _tokenizer(name: str, prompt: str | None) -> TextEncoder:
    """Returns the tokenizer of a checkpoint, with a prompt for a language model.

    Raises:
        InputError: It is not available, or a prompt is set for a model that reads none.
    """
    from dsi.backbones.backbone import loadable_config
    from dsi.text_encoders.prompt_template import template_encoder

    tokenizer = checkpoint_tokenizer(name)
    if not loadable_config(name).is_encoder_decoder:
        return template_encoder(tokenizer, prompt, name)
    if prompt is not None:
        raise InputError(
            f"--model.prompt {prompt!r:.60} requires a language model, but {name!r} is an "
            "encoder-decoder",
            hint="Omit it",
        )
    return PretrainedEncoder(tokenizer)
