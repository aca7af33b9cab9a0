"""The tokenizer of a pretrained encoder, with the prompts that it was trained with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.files import read_json, write_json
from dsi.text_encoders.text_encoder import LONGEST_PROMPT, SETTINGS_FILE, TextEncoder

WITHOUT_LIMIT = 1 << 20
"""Maximum tokens of a text if the tokenizer has no limit."""
_PROBE = "a"


class PromptedEncoder(TextEncoder):
    """A tokenizer that prepends a prompt to each text: one for queries, one for documents.

    Length limits apply to the texts: prompts and special tokens come on top and are never
    truncated.

    Args:
        tokenizer: A fast transformers tokenizer.
        query_prompt: Prompt prepended to each query; may be empty.
        document_prompt: Prompt prepended to each document; may be empty.
        longest: Maximum number of tokens that the encoder reads, including prompt and special
            tokens.
        empty: The token for a text without tokens, in encoders without special tokens; None
            otherwise.
    """

    kind = "prompted"

    def __init__(
        self,
        tokenizer: Any,
        query_prompt: str = "",
        document_prompt: str = "",
        *,
        longest: int = WITHOUT_LIMIT,
        empty: int | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self.query_prompt = query_prompt
        self.document_prompt = document_prompt
        self.longest = longest
        self._empty = empty
        self._marked = empty is None
        vocabulary = tokenizer.get_vocab()
        self.vocabulary_size = max([*vocabulary.values(), -1 if empty is None else empty]) + 1
        self._marks = frozenset(tokenizer.all_special_ids)
        self._query = self._around(query_prompt)
        self._document = self._around(document_prompt)
        for prompt, (before, after) in (
            (query_prompt, self._query),
            (document_prompt, self._document),
        ):
            if len(before) + len(after) >= longest:
                raise InputError(
                    f"the prompt {prompt!r:.60} is too long for the {longest} tokens that the "
                    "encoder can read"
                )

    @classmethod
    def of_static(
        cls, tokenizer: Any, query_prompt: str, document_prompt: str, *, empty: int
    ) -> PromptedEncoder:
        """Wraps a tokenizer of the tokenizers library; static embeddings use no special tokens."""
        from transformers import PreTrainedTokenizerFast

        vocabulary = tokenizer.get_vocab()
        unknown = getattr(tokenizer.model, "unk_token", None)
        longest = (tokenizer.truncation or {}).get("max_length", WITHOUT_LIMIT)
        wrapped = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, **({"unk_token": unknown} if unknown in vocabulary else {})
        )
        return cls(wrapped, query_prompt, document_prompt, longest=longest, empty=empty)

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Returns the token ids of queries: prompt, special tokens, at most `max_length` others."""
        return self._encode(texts, self.query_prompt, self._query, max_length)

    def encode_documents(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Returns the token ids of documents, likewise."""
        return self._encode(texts, self.document_prompt, self._document, max_length)

    def part(self, document: Sequence[int], start: int, length: int) -> list[int]:
        """Returns a slice of an encoded document, with its prompt and special tokens."""
        before, after = map(len, self._document)
        inside = document[before : len(document) - after]
        if not len(inside):
            return list(document)
        return [
            *document[:before],
            *inside[start : start + length],
            *document[len(document) - after :],
        ]

    def has_known_words(self, texts: Sequence[str]) -> list[bool]:
        """Tells for each text whether it has any token that is neither unknown nor special."""
        empty = {self._empty}
        return [
            not (self._marks | empty).issuperset(line)
            for line in self._encode(texts, "", None, 512)
        ]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the encoder to a folder, creating it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._tokenizer.save_pretrained(folder / "tokenizer")
        settings = {
            "kind": self.kind,
            "query_prompt": self.query_prompt,
            "document_prompt": self.document_prompt,
            "longest": self.longest,
            "empty": self._empty,
        }
        write_json(folder / SETTINGS_FILE, settings)

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> PromptedEncoder:
        """Opens the folder that `save` wrote; never runs code from it.

        Raises:
            InputError: A file is missing, damaged, or not of a known tokenizer.
        """
        from dsi.text_encoders.stored_tokenizer import open_tokenizer

        prompts = [settings.get(name) for name in ("query_prompt", "document_prompt")]
        longest, empty = settings.get("longest"), settings.get("empty")
        if not all(isinstance(prompt, str) for prompt in prompts):
            raise InputError("the prompts are missing", where=folder / SETTINGS_FILE)
        if max(len(str(prompt)) for prompt in prompts) > LONGEST_PROMPT:
            raise InputError(
                f"a prompt is longer than {LONGEST_PROMPT:,} characters",
                where=folder / SETTINGS_FILE,
            )
        for name, number, least in (("longest", longest, 1), ("empty", empty, 0)):
            absent = name == "empty" and number is None
            if not absent and not (type(number) is int and least <= number < 1 << 31):
                raise InputError(f"{name} is {number!r:.60}", where=folder / SETTINGS_FILE)
        tokenizer = open_tokenizer(folder / "tokenizer")
        return cls(tokenizer, *map(str, prompts), longest=int(longest or 1), empty=empty)

    def _encode(
        self,
        texts: Sequence[str],
        prompt: str,
        around: tuple[list[int], list[int]] | None,
        max_length: int,
    ) -> list[list[int]]:
        if not len(texts):
            return []
        extra_tokens = 0 if around is None else len(around[0]) + len(around[1])
        encoded = self._tokenizer(
            [prompt + text for text in texts],
            truncation=True,
            max_length=min(max_length + extra_tokens, self.longest),
            add_special_tokens=self._marked,
            verbose=False,
        )["input_ids"]
        return [list(line) or [self._fallback] for line in encoded]

    @property
    def _fallback(self) -> int:
        if self._empty is not None:
            return self._empty
        tokens = (self._tokenizer.pad_token_id, self._tokenizer.unk_token_id, 0)
        return next(token for token in tokens if token is not None)

    def _around(self, prompt: str) -> tuple[list[int], list[int]]:
        """Returns the tokens before and after each text of a prompt."""
        if not self._marked:
            return self._tokenizer(prompt, add_special_tokens=False)["input_ids"], []
        encoded = self._tokenizer(prompt + _PROBE, return_special_tokens_mask=True)
        ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
        prompt_tokens = (
            len(self._tokenizer(prompt, add_special_tokens=False)["input_ids"]) if prompt else 0
        )
        first = next((place for place, mark in enumerate(special) if not mark), len(ids))
        last = next((place for place, mark in enumerate(special[::-1]) if not mark), 0)
        return ids[: first + prompt_tokens], ids[len(ids) - last :]


def prompts_of(folder: str | os.PathLike[str]) -> dict[str, str]:
    """Returns the prompts in the folder of a text encoder; empty if it has none."""
    settings = read_json(Path(folder) / SETTINGS_FILE)
    if not isinstance(settings, dict) or settings.get("kind") != PromptedEncoder.kind:
        return {}
    return {
        "query": settings.get("query_prompt", ""),
        "document": settings.get("document_prompt", ""),
    }
