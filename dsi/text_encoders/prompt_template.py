"""The tokenizer of a language model, with the retrieval prompt."""

from __future__ import annotations

import contextlib
import os
import signal
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.files import write_json
from dsi.text_encoders.text_encoder import LONGEST_PROMPT, SETTINGS_FILE, TextEncoder

PLACE = "{query}"
"""The placeholder of the query, or of the document, in a template."""
DEFAULT_PROMPT = "Query: {query}\nDocument:"
CHAT = "chat"
"""The name of the model's own chat template; `chat:TEXT` puts a custom message into it."""
_PROBE = "a"
_SECONDS, _MEMORY = 2, 256 << 20
"""CPU seconds and bytes of memory for filling in a chat template."""


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
    def prompt_length(self) -> int:
        """The number of tokens of the template."""
        return self._head + len(self._after)

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Returns the token ids of the template with each text, cut to `max_length` tokens."""
        prompt_tokens = len(self._before)
        lines = []
        for text, line in zip(
            texts, self._tokens([self._before + text for text in texts]), strict=True
        ):
            prompt = (
                [*self._lead, *line][: self._head + max_length] if text or prompt_tokens else []
            )
            lines.append([*prompt, *self._after] or [self._fallback])
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

    def has_known_words(self, texts: Sequence[str]) -> list[bool]:
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
        from dsi.text_encoders.stored_tokenizer import open_tokenizer

        template, marked = settings.get("template"), settings.get("marked")
        if (
            not isinstance(template, str)
            or len(template) > LONGEST_PROMPT
            or template.count(PLACE) != 1
            or marked not in (True, False)
        ):
            raise InputError("the template is missing", where=folder / SETTINGS_FILE)
        return cls(open_tokenizer(folder / "tokenizer"), template, marked)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        if not len(texts):
            return []
        token_ids: list[list[int]] = self._tokenizer(
            list(texts), add_special_tokens=False, verbose=False
        )["input_ids"]
        return token_ids

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

    PAD, which every identifier begins with, takes the place and the embedding of the last token, so
    that a language model reads nothing else than the prompt before the first code.

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
    if len(template) > LONGEST_PROMPT:
        raise InputError(
            f"--model.prompt is longer than {LONGEST_PROMPT:,} characters",
            hint="Shorten it: the model reads it with every query",
        )
    if template.count(PLACE) != 1:
        raise InputError(
            f"--model.prompt {prompt!r:.80} contains {PLACE} {template.count(PLACE)} times",
            hint=f"Write a template that contains {PLACE} once, such as {DEFAULT_PROMPT!r}; or use "
            f"{CHAT} for the template of the model's tokenizer",
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
    prompt = DEFAULT_PROMPT if prompt is None else prompt
    check_prompt(prompt)
    if prompt != CHAT and not prompt.startswith(f"{CHAT}:"):
        return TemplateEncoder(tokenizer, prompt)
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"--model.prompt {CHAT}: the tokenizer of {name!r} has no chat template",
            hint=f"Write your own template, such as {DEFAULT_PROMPT!r}, or omit it",
        )
    message = prompt.removeprefix(CHAT).removeprefix(":") or PLACE
    try:
        filled = filled_chat(tokenizer, [{"role": "user", "content": message}])
    except ValueError as error:
        raise InputError(
            f"--model.prompt {CHAT}: the chat template of {name!r} rejects a message of the user "
            f"({error!s:.100})",
            hint="Write your own template",
        ) from None
    if filled.count(PLACE) != 1:
        raise InputError(
            f"--model.prompt {CHAT}: the output of the chat template of {name!r} does not contain "
            "the message exactly once",
            hint="Write your own template",
        )
    return TemplateEncoder(tokenizer, filled, marked=False)


def filled_chat(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> str:
    """Fills in a tokenizer's chat template with messages, for an answer to be generated.

    A template is a program of the checkpoint. transformers runs it in Jinja's sandbox, which keeps
    it from everything outside, but bounds neither time nor memory; so it runs in a process of its
    own that does.

    Args:
        tokenizer: A transformers tokenizer with a chat template.
        messages: "role" and "content" of each.

    Raises:
        ValueError: The template refuses the messages, or takes too much time or memory. The message
            is one line.
    """
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child starts no thread
        child = os.fork()
    if child == 0:
        _fill_in_child(tokenizer, messages, write)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read(4 * LONGEST_PROMPT + 1).decode("utf-8", "replace")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if not answer or len(answer) > LONGEST_PROMPT:
        raise ValueError("it takes too much time or memory, or produces too long a text")
    if answer[0] != _DONE:
        raise ValueError(answer[1:].splitlines()[0] if answer[1:].strip() else "no reason given")
    return answer[1:]


_DONE, _REFUSED = "+-"
_MARK = "c4b7-text-of-the-user-9e21"
"""Stands for the user's text while a chat template is filled in."""


@dataclass(frozen=True)
class ChatFrame:
    """A chat template filled in once, around the text of a user's message.

    Attributes:
        before: What comes before the text.
        after: What comes after it.
        strips: Whether the template strips the text.
    """

    before: str
    after: str
    strips: bool

    def around(self, text: str) -> str:
        """Returns the prompt of a text."""
        return f"{self.before}{text.strip() if self.strips else text}{self.after}"

    @classmethod
    def of(cls, tokenizer: Any, system: str = "") -> ChatFrame:
        """Fills in the template of a tokenizer; it never runs again, whatever the texts are.

        Args:
            tokenizer: A transformers tokenizer with a chat template.
            system: The system message; none if empty.

        Raises:
            ValueError: The template refuses such messages, does not contain its text once, or
                takes too much time or memory. The message is one line.
        """
        messages = [{"role": "system", "content": system}] if system else []
        filled = filled_chat(tokenizer, [*messages, {"role": "user", "content": f" {_MARK} "}])
        for mark in (f" {_MARK} ", _MARK):
            if filled.count(mark) == 1:
                before, after = filled.split(mark)
                return cls(before, after, mark == _MARK)
        raise ValueError("it does not contain the message exactly once")


def _fill_in_child(tokenizer: Any, messages: Sequence[Mapping[str, str]], pipe: int) -> None:
    """Writes the outcome to a pipe, and ends this process."""
    import resource

    try:
        for kind, most in (
            (resource.RLIMIT_CPU, _SECONDS),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_AS, _memory_in_use() + _MEMORY),
        ):
            with contextlib.suppress(ValueError, OSError):  # a lower limit is set already
                resource.setrlimit(kind, (most, most))
        try:
            text = tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
            answer = f"{_DONE}{text}"
        except MemoryError:
            return  # with nothing to say
        except Exception as error:  # whatever a template raises
            answer = f"{_REFUSED}{error!s:.1000}"
        with os.fdopen(pipe, "wb") as file:
            file.write(answer.encode("utf-8", "replace"))
    finally:
        os._exit(0)


def _memory_in_use() -> int:
    """Returns the size of the address space in bytes; no limit where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return 1 << 50
    return pages * os.sysconf("SC_PAGE_SIZE")
