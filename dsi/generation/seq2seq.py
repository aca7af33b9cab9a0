"""Pseudo-queries from any transformers model: docT5query, mT5, a causal model, ..."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from data_prep.dataset import Dataset, Document
from data_prep.errors import InputError
from data_prep.generators.base import GENERATORS, GeneratorOptions, ModelGenerator, PseudoQuery
from data_prep.marks import Advanced, AnyText, Needs
from dsi.generation.prompts import Prompt
from dsi.generation.sampling import SamplingOptions

DEFAULT_MODEL = "castorini/doc2query-t5-base-msmarco"
"""docT5query (Nogueira and Lin, 2019), as NCI uses it; DSI-QG takes its large one."""
PROMPT = "{title} {text}"
CHAT_PROMPT = (
    "Passage: {title} {text}\n\nWrite one question that the passage above answers, as somebody "
    "would type it into a search engine. Reply with the question alone."
)
"""Default prompt of an instruction-tuned model."""
_FIELD = re.compile(r"\{(\w*)\}")
_FIELDS = ("title", "text", "language")


@dataclass(frozen=True)
class Seq2SeqOptions(SamplingOptions, group="seq2seq"):
    """The model that generates the queries, and its prompt."""

    model: str = DEFAULT_MODEL
    """Encoder-decoder, causal model or GGUF file: hub id or path"""
    prompt: str = PROMPT
    """Prompt with {title} and {text} of the document and the {language} of the query. Long texts
    are truncated, the prompt around them is not"""
    chat: Advanced[bool] = False
    """Apply the tokenizer's chat template, for instruction-tuned models"""
    system: Advanced[Annotated[AnyText, Needs("chat", (True,), "--seq2seq.chat true")]] = ""
    """System message of the chat"""
    languages: Advanced[AnyText] = ""
    """Query languages, such as English,German, in equal shares; the prompt must contain
    {language}"""

    def conflicts(self) -> None:
        """Refuses a prompt with unknown fields."""
        unknown = [name for name in _FIELD.findall(self.prompt) if name not in _FIELDS]
        if unknown:
            raise InputError(
                f"--seq2seq.prompt has no field {{{unknown[0]}}}",
                hint="Use {title}, {text} and {language}",
            )
        if "{text}" not in self.prompt:
            raise InputError("--seq2seq.prompt does not contain {text}, the text of the document")
        if ("{language}" in self.prompt) != bool(self.prompt_languages):
            raise InputError(
                f"--seq2seq.languages {self.languages!r} does not match the prompt {self.prompt!r}",
                hint="Give both languages and a prompt with {language}, or neither",
            )
        if len(self.prompt_languages) > self.per_doc:
            raise InputError(
                f"{len(self.prompt_languages)} languages for {self.per_doc} queries per document",
                hint="Raise --per-doc",
            )

    @property
    def prompt_languages(self) -> list[str]:
        """The languages, in order; empty if the prompt does not name any."""
        return [name.strip() for name in self.languages.split(",") if name.strip()]

    def proportions(self) -> list[tuple[str, int]]:
        """Returns the number of queries per document in each language.

        They add up to `per_doc`; any remainder goes to the first languages.
        """
        names = self.prompt_languages or [""]
        least, more = divmod(self.per_doc, len(names))
        return [(name, least + (place < more)) for place, name in enumerate(names)]

    @property
    def template(self) -> str:
        """The prompt; for chats without one of their own, the default."""
        return CHAT_PROMPT if self.chat and self.prompt == PROMPT else self.prompt

    def fill(self, document: Document, language: str) -> Prompt:
        """Returns the prompt for a document, with its fields filled in."""
        values = {"title": document.title, "text": document.text, "language": language}
        return Prompt(self.template, values)


@GENERATORS.register("seq2seq")
class Seq2Seq(ModelGenerator):
    """Samples queries from a model; those of a document do not depend on other documents.

    Raises:
        InputError: The model cannot be loaded.
    """

    options_class = Seq2SeqOptions

    def __init__(self, dataset: Dataset, options: GeneratorOptions) -> None:
        from dsi.generation.sampling import Sampler

        assert isinstance(options, Seq2SeqOptions)
        self.options = options
        self.sampler = Sampler.open(options.model, options)
        if options.chat:
            self.sampler.chat(options.system)

    @classmethod
    def identity(cls, dataset: Dataset, options: GeneratorOptions) -> dict[str, Any]:
        """Returns the hash of a local model's weights, or the commit of a hub id."""
        from dsi.generation.pretrained_models import weights_hash

        assert isinstance(options, Seq2SeqOptions)
        return {"weights": weights_hash(options.model)}

    def generate_batch(self, documents: Sequence[Document]) -> list[list[PseudoQuery]]:
        """Returns the pseudo-queries of several documents, language by language."""
        written: list[list[PseudoQuery]] = [[] for _ in documents]
        readable = [f"{document.title}{document.text}".strip() != "" for document in documents]
        for language, count in self.options.proportions():
            prompts = [
                self.options.fill(document, language) if useful else Prompt("", {})
                for document, useful in zip(documents, readable, strict=True)
            ]
            sampled = self.sampler.sample(prompts, count, self.options.seed)
            for queries, texts in zip(written, sampled, strict=True):
                queries.extend(PseudoQuery(text, language) for text in texts)
        return written
