"""The generative memory: a query generator trained on the labeled pairs of a corpus.

DSI++ (Mehta et al., EMNLP 2023, section 4) trains it on the first corpus and uses it to generate
pseudo-queries for new documents, and again for old ones, when an index grows. It is stored with the
index that it was trained for.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.dataset import Dataset, Document
from data_prep.descriptor_lock import only_writer
from data_prep.errors import InputError, command_line
from data_prep.files import read_json, replacing_folder, write_json
from data_prep.generate import explaining_read_only
from data_prep.generators.base import GENERATORS, GeneratorOptions, ModelGenerator, PseudoQuery
from dsi.generation.generative_memory_options import MemoryOptions
from dsi.generation.sampling import SamplingOptions

if TYPE_CHECKING:
    from dsi.generation.sampling import Sampler

FEWEST_PAIRS = 50
"""Minimum number of labeled training pairs for a useful model."""
FORMAT = 1
IN_VERSION = "memory"
"""The folder of the memory in an index version."""
_ABOUT = "memory.json"
_TRAINING = (
    "pretrained", "width", "layers", "vocabulary", "steps", "pairs", "lr", "warmup",
    "document_length", "query_length", "seed", "precision",
)  # fmt: skip
"""The options that determine the model; the others determine the sampling."""


def generator_options(name: str, *, per_doc: int, seed: int, memory: Path) -> GeneratorOptions:
    """Returns the options of a generator that writes for an index.

    Args:
        name: The generator.
        per_doc: Pseudo-queries per document.
        seed: Random seed.
        memory: Where the index keeps its generative memory, if it has one.
    """
    if name == "memory" and memory.is_dir():
        return GenerativeMemory.options_of(memory, per_doc=per_doc, seed=seed)
    return GENERATORS[name].options_class(per_doc=per_doc, seed=seed)


class GenerativeMemory:
    """A trained doc -> query model, loaded.

    Args:
        folder: What `train_memory` or `save` wrote.
        sampler: The model.
        about: The content of its `memory.json`.
    """

    def __init__(self, folder: Path, sampler: Sampler, about: dict[str, Any]) -> None:
        self.folder = folder
        self.about = about
        self._sampler = sampler

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], options: SamplingOptions | None = None
    ) -> GenerativeMemory:
        """Opens a memory; reads its weights but never runs code from it.

        Args:
            folder: Such as `INDEX/versions/0001/memory` or `DATASET/memory`.
            options: How queries are sampled; if None, as in training.

        Raises:
            InputError: There is none, or it is damaged.
        """
        from dsi.generation.pretrained_models import check_stored
        from dsi.generation.sampling import Sampler

        folder = Path(folder)
        about = describe(folder)
        check_stored(folder)
        sampling = options or _stored_options(folder, folder=None)
        return cls(folder, Sampler.open(str(folder), sampling), about)

    @staticmethod
    def find(dataset: Dataset, folder: Path | None = None) -> Path | None:
        """Returns `folder` if given, otherwise that of the Dataset's own memory, if any.

        Raises:
            InputError: There is no memory in `folder`.
        """
        if folder is not None:
            describe(folder)
            return folder
        default_folder = dataset.path / "memory"
        if not (default_folder / _ABOUT).is_file():
            return None
        same = describe(default_folder)["dataset"]["content_hash"] == dataset.info.content_hash
        return default_folder if same else None

    @staticmethod
    def options_of(folder: Path, *, per_doc: int, seed: int) -> MemoryOptions:
        """Returns the options of a memory as trained, with another number of queries or seed."""
        return _stored_options(
            folder, pretrained=None, folder=str(folder), per_doc=per_doc, seed=seed
        )

    def generate(self, texts: Sequence[str], per_doc: int, seed: int = 0) -> list[list[str]]:
        """Generates pseudo-queries for documents, which need not be in a dataset.

        The queries of a text depend on the text and the seed only, not on the other texts.

        Args:
            texts: One for each document: its `title_and_text`.
            per_doc: Number of distinct queries wanted; a peaked distribution may yield fewer.
            seed: Seed of the sampling.

        Returns:
            The queries of each document, in order; none for an empty text.
        """
        return self._sampler.sample(texts, per_doc, seed)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Copies the memory, for example into the folder of an index version."""
        shutil.copytree(self.folder, folder)


def describe(folder: Path) -> dict[str, Any]:
    """Returns the `memory.json` of a trained memory.

    Raises:
        InputError: There is none in that folder, or it has another format.
    """
    if not (folder / _ABOUT).is_file():
        raise InputError(
            "this folder is not a generative memory",
            where=folder,
            hint="Train one with: dsi queries DATASET --train_generator",
        )
    about = read_json(folder / _ABOUT)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise InputError(
            "this version of dsi-toolkit cannot read the format of this generative memory",
            where=folder / _ABOUT,
        )
    source = about.get("dataset")
    if not (isinstance(source, dict) and isinstance(source.get("content_hash"), str)):
        raise InputError(
            "the training data of the generative memory is not recorded", where=folder / _ABOUT
        )
    if not isinstance(about.get("options"), dict):
        raise InputError("the options of the generative memory are missing", where=folder / _ABOUT)
    return about


def _stored_options(of: Path, **changes: Any) -> MemoryOptions:
    """Returns the training options of the memory in the folder `of`, with some changed.

    Raises:
        InputError: They are invalid.
    """
    try:
        return MemoryOptions(**{**describe(of)["options"], **changes})
    except (TypeError, ValueError) as error:  # InputError, too: it names no file
        raise InputError(
            f"the options of the generative memory are not valid ({error})", where=of / _ABOUT
        ) from None


def training_pairs(dataset: Dataset) -> list[tuple[str, str]]:
    """Returns (text of the document, query) of the relevant pairs of split train.

    Raises:
        InputError: There are fewer than `FEWEST_PAIRS`.
    """
    queries = dataset.query_texts()
    queries_of: dict[str, list[str]] = {}
    for query_id, judged in dataset.qrels_of("train").items():
        for doc_id, relevance in judged.items():
            if relevance > 0:
                queries_of.setdefault(doc_id, []).append(queries[query_id])
    pairs = [
        (document.title_and_text, query)
        for document in dataset.documents()
        for query in queries_of.get(document.doc_id, ())
    ]
    if len(pairs) < FEWEST_PAIRS:
        raise InputError(
            f"{len(pairs)} labeled training pairs are too few: a generative memory needs at"
            f" least {FEWEST_PAIRS}",
            where=dataset.path,
            hint="Use the generator 'extractive', which needs none, or --memory.folder",
        )
    return pairs


def _description(dataset: Dataset, options: MemoryOptions) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "dataset": {"name": dataset.info.name, "content_hash": dataset.info.content_hash},
        "options": asdict(options),
    }


def _same_model(about: dict[str, Any], current: dict[str, Any]) -> bool:
    current_options, stored_options = (
        {n: each["options"].get(n) for n in _TRAINING} for each in (current, about)
    )
    return current_options == stored_options and about["dataset"] == current["dataset"]


def train_memory(dataset: Dataset, options: MemoryOptions) -> Path:
    """Trains the generative memory of a Dataset, unless it is already trained with these options.

    Run again after an interruption, it resumes from the last checkpoint, and ends with the weights
    of an uninterrupted run. Only split train is read.

    Args:
        dataset: Source of the pairs; the memory is written to its folder `memory/`.
        options: The model and its training.

    Returns:
        The folder of the memory.

    Raises:
        InputError: There are too few labeled pairs, the model cannot be loaded, or another process
            trains a memory of this dataset.
    """
    with only_writer(dataset.path):
        return _trained_memory(dataset, options)


def _trained_memory(dataset: Dataset, options: MemoryOptions) -> Path:
    folder, work = dataset.path / "memory", dataset.path / "memory.partial"
    description = _description(dataset, options)
    if (folder / _ABOUT).is_file() and _same_model(describe(folder), description):
        shutil.rmtree(work, ignore_errors=True)
        return folder
    from dsi.generation.generative_memory_training import fit, save_writer

    pairs = training_pairs(dataset)
    claim = work / "training.json"
    if not claim.is_file() or read_json(claim) != description:
        shutil.rmtree(work, ignore_errors=True)
        with explaining_read_only(dataset, "a generative memory is"):
            write_json(claim, description)
    corpus = [document.title_and_text for document in dataset.documents()]
    model, tokenizer, loss = fit(pairs, corpus, options, work)
    with replacing_folder(folder) as fresh:
        save_writer(model, tokenizer, fresh)
        write_json(fresh / _ABOUT, {**description, "pairs": len(pairs), "loss": loss})
    shutil.rmtree(work, ignore_errors=True)
    return folder


def _folder_of(dataset: Dataset, options: MemoryOptions) -> Path:
    """Returns the folder of the requested memory.

    Raises:
        InputError: It does not exist.
    """
    folder = GenerativeMemory.find(
        dataset, None if options.folder is None else Path(options.folder)
    )
    if folder is None:
        raise InputError(
            "this dataset has no generative memory",
            where=dataset.path,
            hint=f"Train one with: {command_line('queries', dataset.path, '--train_generator')}",
        )
    return folder


@GENERATORS.register("memory")
class GenerativeMemoryGenerator(ModelGenerator):
    """Generates with the generative memory of the Dataset; `train_memory` must have run before.

    Raises:
        InputError: There is no such memory.
    """

    options_class = MemoryOptions

    def __init__(self, dataset: Dataset, options: GeneratorOptions) -> None:
        assert isinstance(options, MemoryOptions)
        self.options = options
        self.memory = GenerativeMemory.open(_folder_of(dataset, options), options)

    @classmethod
    def identity(cls, dataset: Dataset, options: GeneratorOptions) -> dict[str, Any]:
        """Returns the hash of the memory's weights."""
        from dsi.generation.pretrained_models import weights_hash

        assert isinstance(options, MemoryOptions)
        return {"weights": weights_hash(_folder_of(dataset, options))}

    def generate_batch(self, documents: Sequence[Document]) -> list[list[PseudoQuery]]:
        """Returns the pseudo-queries of several documents."""
        texts = [document.title_and_text for document in documents]
        written = self.memory.generate(texts, self.options.per_doc, self.options.seed)
        return [list(map(PseudoQuery, queries)) for queries in written]
