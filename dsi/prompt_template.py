"""The tokenizer of a language model, with the retrieval prompt."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.files import write_json
from dsi.text_encoder import SETTINGS_FILE, TextEncoder

PLACE = "{query}"
"""Where a template has the query, or the document in its place."""
DEFAULT_PROMPT = "Query: {query}\nDocument:"
CHAT = "chat"
"""What stands for the model's own chat template; `chat:TEXT` for a message of one's own in it."""
_PROBE = "a"


class TemplateEncoder(TextEncoder):
    """A tokenizer that inserts each text into a template.

    Length limits apply to the texts: the template comes on top and is never truncated.

    Args:
        tokenizer: A fast transformers tokenizer.
        template: The prompt, which contains `{query}` once.
        marked: Whether the tokenizer's leading special tokens come first; a chat template has its
            own.
    """

    kind = "template"
    longest = 512

    def __init__(self, tokenizer: Any, template: str, marked: bool = True) -> None:
        self.tokenizer = self._tokenizer = tokenizer
        self.template = template
        self._marked = marked
        self.vocabulary_size = max(tokenizer.get_vocab().values(), default=0) + 1
        self._marks = frozenset(tokenizer.all_special_ids)
        self._before, _, after = template.partition(PLACE)
        self._lead = self._leading() if marked else []
        self._head = len(self._lead) + len(self._tokens([self._before])[0])
        self._after = self._tokens([after])[0]

    @property
    def written(self) -> str:
        """The template with its leading special tokens spelled out, to be encoded without more."""
        return "".join(self._tokenizer.convert_ids_to_tokens(self._lead)) + self.template

    @property
    def beside(self) -> int:
        """The number of tokens of the template."""
        return self._head + len(self._after)

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Returns the token ids of the template with each text, cut to `max_length` tokens."""
        bare = len(self._before)
        lines = []
        for text, line in zip(
            texts, self._tokens([self._before + text for text in texts]), strict=True
        ):
            kept = [*self._lead, *line][: self._head + max_length] if text or bare else []
            lines.append([*kept, *self._after] or [self._fallback])
        return lines

    def part(self, document: Sequence[int], start: int, length: int) -> list[int]:
        """Returns a slice of an encoded document, in the template."""
        end = len(document) - len(self._after)
        inside = list(document[self._head : end])
        return [
            *document[: self._head],
            *inside[start : start + length],
            *document[end:],
        ]

    def known(self, texts: Sequence[str]) -> list[bool]:
        """Tells for each text whether it has any token that is neither unknown nor special."""
        return [not self._marks.issuperset(line) for line in self._tokens(list(texts))]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the encoder to a folder, creating it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._tokenizer.save_pretrained(folder / "tokenizer")
        settings = {"kind": self.kind, "template": self.template, "marked": self._marked}
        write_json(folder / SETTINGS_FILE, settings)

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> TemplateEncoder:
        """Opens the folder that `save` wrote; never runs code or a chat template from it.

        Raises:
            InputError: A file is missing, damaged, or not of a known tokenizer.
        """
        from dsi.stored_tokenizer import open_tokenizer

        template, marked = settings.get("template"), settings.get("marked")
        if (
            not isinstance(template, str)
            or template.count(PLACE) != 1
            or marked not in (True, False)
        ):
            raise InputError("the template is missing", where=folder / SETTINGS_FILE)
        return cls(open_tokenizer(folder / "tokenizer"), template, marked)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        if not len(texts):
            return []
        found: list[list[int]] = self._tokenizer(
            list(texts), add_special_tokens=False, verbose=False
        )["input_ids"]
        return found

    def _leading(self) -> list[int]:
        """Returns the special tokens that the tokenizer puts before a text, not after it."""
        encoded = self._tokenizer(_PROBE, return_special_tokens_mask=True)
        marks = encoded["special_tokens_mask"]
        first = next((place for place, mark in enumerate(marks) if not mark), len(marks))
        return list(encoded["input_ids"][:first])

    @property
    def _fallback(self) -> int:
        tokens = (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id, 0)
        return next(token for token in tokens if token is not None)


def split_before_identifier(encoder: TemplateEncoder) -> tuple[TemplateEncoder, int]:
    """Splits a prompt before its last token, which stands right before the identifier.

    A language model continues the prompt with an identifier in its own tokens. PAD, which every
    identifier begins with, takes the place and the embedding of the last token, so that the model
    reads nothing else than the prompt.

    Returns:
        The encoder of the prompt without its last token, and the token. A prompt that ends in the
        query, or whose rest is read as other tokens, keeps all of them; then the token is that of a
        line break, or its last.
    """
    after = encoder.template.partition(PLACE)[2]
    line = encoder._tokens([after])[0]
    if not line:
        newline = encoder._tokens(["\n"])[0]
        return encoder, (newline or [encoder._fallback])[-1]
    rest = encoder._tokenizer.decode(line[:-1], clean_up_tokenization_spaces=False)
    if encoder._tokens([rest])[0] != line[:-1]:
        return encoder, line[-1]
    before = encoder.template.partition(PLACE)[0]
    template = f"{before}{PLACE}{rest}"
    return TemplateEncoder(encoder.tokenizer, template, encoder._marked), line[-1]


def check_prompt(prompt: str) -> None:
    """Raises InputError if a prompt is neither a template nor the name of the chat template."""
    if prompt == CHAT:
        return
    template = prompt.removeprefix(f"{CHAT}:")
    if template.count(PLACE) != 1:
        raise InputError(
            f"--model.prompt {prompt!r:.80} has {PLACE} {template.count(PLACE)} times",
            hint=f"Write a template with {PLACE} once, such as {DEFAULT_PROMPT!r}; or {CHAT}, for "
            "the template of the model's tokenizer",
        )


def template_encoder(tokenizer: Any, prompt: str | None, name: str) -> TemplateEncoder:
    """Returns the text encoder for a prompt.

    Args:
        tokenizer: Tokenizer of the language model.
        prompt: A template, "chat", or "chat:" and a template of the user's message; None for
            `DEFAULT_PROMPT`.
        name: Name of the checkpoint, for messages.

    Raises:
        InputError: The tokenizer has no chat template, or one that cannot be filled in.
    """
    from jinja2 import TemplateError

    prompt = DEFAULT_PROMPT if prompt is None else prompt
    check_prompt(prompt)
    if prompt != CHAT and not prompt.startswith(f"{CHAT}:"):
        return TemplateEncoder(tokenizer, prompt)
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"--model.prompt {CHAT}: the tokenizer of {name!r} has no chat template",
            hint=f"Write a template of your own, such as {DEFAULT_PROMPT!r}, or omit it",
        )
    message = prompt.removeprefix(CHAT).removeprefix(":") or PLACE
    try:
        filled = tokenizer.apply_chat_template(
            [{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True
        )
    except (TemplateError, ValueError, TypeError) as error:
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"--model.prompt {CHAT}: the chat template of {name!r} takes no message of a user "
            f"({told:.100})",
            hint="Write a template of your own",
        ) from None
    if filled.count(PLACE) != 1:
        raise InputError(
            f"--model.prompt {CHAT}: the chat template of {name!r} does not repeat the message",
            hint="Write a template of your own",
        )
    return TemplateEncoder(tokenizer, filled, marked=False)
