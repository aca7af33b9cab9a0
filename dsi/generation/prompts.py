"""Prompts within a token limit: the document is truncated, the instruction around it is not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from data_prep.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FIELD = re.compile(r"\{(\w*)\}")
_CUT = ("text", "title")
"""Fields that may be cut, the first one first."""


@dataclass(frozen=True)
class Prompt:
    """A template and the values of its fields.

    Attributes:
        template: Text with fields such as {text}.
        values: Field -> value.
    """

    template: str
    values: Mapping[str, str]

    @property
    def text(self) -> str:
        """The filled template, stripped of leading and trailing white space."""
        return _FIELD.sub(lambda field: self.values[field[1]], self.template).strip()

    def without(self, *names: str) -> Prompt:
        """Returns the same prompt with some fields empty."""
        return replace(self, values={**self.values, **dict.fromkeys(names, "")})

    def with_value(self, name: str, value: str) -> Prompt:
        """Returns the same prompt with another value in a field."""
        return replace(self, values={**self.values, name: value})


Encode = Callable[[str], list[int]]
"""Converts a filled prompt to all token ids that the model reads, without truncation."""


def fitted(
    prompt: Prompt, encode: Encode, tokenizer: PreTrainedTokenizerBase, most: int
) -> list[int]:
    """Returns the token ids of a prompt, truncating its text, then its title, to fit.

    Args:
        prompt: The prompt.
        encode: The model's encoding, including special tokens and chat template.
        tokenizer: The model's tokenizer, which determines where a field is truncated.
        most: Maximum number of tokens.

    Raises:
        InputError: The text around the fields is already too long.
    """
    encoded = encode(prompt.text)
    if len(encoded) <= most:
        return encoded
    for number, name in enumerate(_CUT):
        fixed_tokens = len(encode(prompt.without(*_CUT[: number + 1]).text))
        if fixed_tokens > most:
            continue  # even without this field; the next one is truncated as well
        shortened = prompt.without(*_CUT[:number])
        room = most - fixed_tokens
        while True:
            cut = shortened.with_value(
                name, _first_tokens(tokenizer, shortened.values.get(name, ""), room)
            )
            tokens = encode(cut.text)
            # Tokens may merge or split where a field meets its template.
            if len(tokens) <= most or room == 0:
                return tokens[:most]
            room = max(0, room - (len(tokens) - most))
    least = len(encode(prompt.without(*_CUT).text))
    raise InputError(
        f"the prompt has {least} tokens without the document, but at most {most} are read",
        hint="Shorten --seq2seq.prompt, or raise --seq2seq.document_length",
    )


def _first_tokens(tokenizer: PreTrainedTokenizerBase, text: str, count: int) -> str:
    """Returns the longest beginning of a text within the token limit."""
    if count < 1:
        return ""
    reader: Any = tokenizer
    if reader.is_fast:
        encoded = reader(
            text,
            add_special_tokens=False,
            truncation=True,
            max_length=count,
            return_offsets_mapping=True,
        )
        return text[: encoded["offset_mapping"][-1][1]] if encoded["offset_mapping"] else ""
    tokens = reader(text, add_special_tokens=False)["input_ids"][:count]
    return str(reader.decode(tokens))
