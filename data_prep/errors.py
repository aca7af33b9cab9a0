"""`InputError`, the error of invalid input or calls, and command lines to print in hints."""

from __future__ import annotations

import contextlib
import contextvars
import os
import re
import shlex
from collections.abc import Iterator, Sequence

ON_COMMAND_LINE = contextvars.ContextVar("on_command_line", default=False)
"""Whether errors speak of options (`--loop.steps`) instead of arguments (`loop.steps`)."""
# Commands stay as a shell takes them; what is left are options by their names.
LONGEST_QUOTATION = 200
"""Maximum characters of a quoted value in a message; more are cut from its middle."""
LONGEST_MESSAGE = 4_000
"""Maximum characters of a part of a message."""
_QUOTATION = re.compile(
    rf"'[^'\n]{{{LONGEST_QUOTATION + 1},}}'|\"[^\"\n]{{{LONGEST_QUOTATION + 1},}}\""
)
_OPTION = re.compile(r"`[^`]*`|\bdsi [a-z]+(?: [^\s;,)]+)+|(?<![\w-])--([a-z][\w.-]*)")


class InputError(ValueError):
    """Invalid input, described in one line: what is wrong, where, and how to fix it.

    Where one line has no room for the choices, a line for each of them follows.

    The command line prints the line and exits with code 2. Any other exception is a bug or a
    system failure and exits with code 1. In Python the message names arguments and fields
    (`loop.steps`) where the command line names options (`--loop.steps`).

    Args:
        what: What is wrong, with the offending value.
        where: The file, line, column or option it was found in.
        hint: What the user should do about it.
        choices: What there is to choose from, a line each.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | os.PathLike[str] | None = None,
        hint: str | None = None,
        choices: Sequence[str] = (),
    ) -> None:
        parts = [what.rstrip(".")]
        if where is not None:
            parts[0] = f"{os.fspath(where)}: {parts[0]}"
        if hint is not None:
            parts.append(hint.rstrip("."))
        line = ". ".join(_one_line(part) for part in parts)
        lines = [f"{line}:" if choices else f"{line}."]
        super().__init__("\n".join([*lines, *(f"  {_one_line(choice)}" for choice in choices)]))

    def __str__(self) -> str:
        """Returns the line, for the command line or for a caller in Python."""
        line: str = self.args[0]
        return line if ON_COMMAND_LINE.get() else _OPTION.sub(_argument, line)


def _argument(match: re.Match[str]) -> str:
    return match[0] if match[1] is None else match[1].replace("-", "_")


@contextlib.contextmanager
def on_command_line(on: bool = True) -> Iterator[None]:
    """Lets errors speak of options (`--loop.steps`) inside the block, or of arguments again."""
    token = ON_COMMAND_LINE.set(on)
    try:
        yield
    finally:
        ON_COMMAND_LINE.reset(token)


def _one_line(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    return shortened(" ".join(line for line in lines if line))


def shortened(message: str) -> str:
    """Returns a message without the middle of quoted values, and of itself, if they are long."""
    message = _QUOTATION.sub(lambda found: _ends(found[0], LONGEST_QUOTATION), message)
    return _ends(message, LONGEST_MESSAGE)


def _ends(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}...{text[len(text) - limit // 2 :]}"


def command_line(*words: str | os.PathLike[str]) -> str:
    """Returns a `dsi` command line that users can paste into a shell.

    Args:
        words: The verb and its arguments; each is quoted as one argument.
    """
    return shlex.join(["dsi", *map(_word, words)])


def _word(word: str | os.PathLike[str]) -> str:
    text = os.fspath(word)
    is_path = not isinstance(word, str)
    return os.path.join(".", text) if is_path and text.startswith("-") else text
