"""Pseudo-queries written by any model of transformers: docT5query, mT5, a causal model, ..."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data_prep.dataset import Dataset, Document
from data_prep.errors import InputError
from data_prep.generators.base import GENERATORS, GeneratorOptions, PseudoQuery
from dsi.generation.models import ModelGenerator
from dsi.generation.sampling import SamplingOptions

DEFAULT_MODEL = "castorini/doc2query-t5-base-msmarco"
"""docT5query (Nogueira and Lin, 2019), as NCI uses it; DSI-QG takes its large one."""
_FIELD = re.compile(r"\{(\w*)\}")
_FIELDS = ("title", "text", "language")


@dataclass(frozen=True)
class Seq2SeqOptions(SamplingOptions):
    """Which model writes the queries, and what it is told."""

    model: str = DEFAULT_MODEL
    """Hub id or path of an encoder-decoder or a causal model"""
    prompt: str = "{title} {text}"
    """What the model reads: {title} and {text} of the document, {language} of the query"""
    languages: str = ""
    """Languages to ask in, such as English,German, each for its part of the queries; the prompt
    must name {language}"""

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [name for name in _FIELD.findall(self.prompt) if name not in _FIELDS]
        if unknown:
            raise InputError(
                f"--seq2seq.prompt has no field {{{unknown[0]}}}",
                mend="Use {title}, {text} and {language}",
            )
        if "{text}" not in self.prompt:
            raise InputError("--seq2seq.prompt says nothing of the document's {text}")
        if ("{language}" in self.prompt) != bool(self.spoken):
            raise InputError(
                f"--seq2seq.languages {self.languages!r} and the prompt {self.prompt!r} do not fit",
                mend="Give languages, and a prompt with {language}, or neither",
            )
        if len(self.spoken) > self.per_doc:
            raise InputError(
                f"{len(self.spoken)} languages for {self.per_doc} queries a document",
                mend="Raise --per-doc",
            )

    @property
    def spoken(self) -> list[str]:
        """The languages, in order; empty where the prompt names none."""
        return [name.strip() for name in self.languages.split(",") if name.strip()]

    def shares(self) -> list[tuple[str, int]]:
        """Returns how many queries of a document are asked for in each language.

        They add up to `per_doc`; the first ones get one more where it does not come out even.
        """
        names = self.spoken or [""]
        least, more = divmod(self.per_doc, len(names))
        return [(name, least + (place < more)) for place, name in enumerate(names)]

    def fill(self, document: Document, language: str) -> str:
        """Returns the prompt for a document, white space at its ends left out."""
        values = {"title": document.title, "text": document.text, "language": language}
        return _FIELD.sub(lambda field: values[field[1]], self.prompt).strip()


@GENERATORS.register("seq2seq")
class Seq2Seq(ModelGenerator):
    """Samples queries from a model; a document's do not depend on the documents beside it.

    Raises:
        InputError: The model cannot be loaded.
    """

    options_class = Seq2SeqOptions

    def __init__(self, dataset: Dataset, options: GeneratorOptions) -> None:
        from dsi.generation.sampling import Sampler

        assert isinstance(options, Seq2SeqOptions)
        self.options = options
        self.sampler = Sampler.open(options.model, options)

    @classmethod
    def identity(cls, dataset: Dataset, options: GeneratorOptions) -> dict[str, Any]:
        """Returns the hash of a local model's weights, or the commit of a hub id."""
        from dsi.generation.sampling import weights_hash

        assert isinstance(options, Seq2SeqOptions)
        return {"weights": weights_hash(options.model)}

    def generate_batch(self, documents: Sequence[Document]) -> list[list[PseudoQuery]]:
        """Returns the pseudo-queries of several documents, language by language."""
        written: list[list[PseudoQuery]] = [[] for _ in documents]
        readable = [f"{document.title}{document.text}".strip() != "" for document in documents]
        for language, count in self.options.shares():
            prompts = [
                self.options.fill(document, language) if useful else ""
                for document, useful in zip(documents, readable, strict=True)
            ]
            sampled = self.sampler.sample(prompts, count, self.options.seed)
            for queries, texts in zip(written, sampled, strict=True):
                queries.extend(PseudoQuery(text, language) for text in texts)
        return written
