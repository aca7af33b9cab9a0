"""The program `dsi`: finds the command, calls its function, prints what it returns.

Exit codes: 0 success; 2 invalid input or arguments, no space for the output, or an error in the
code of a plug-in (one line on standard error); 130 interrupted; 141 the reader of standard output
went away; 1 anything else.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import errno
import importlib
import importlib.util
import os
import shutil
import sys
import textwrap
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import InputError, on_command_line, shortened
from dsi.command_line.standard_streams import (
    StandardOutputError,
    console,
    drop_standard_output,
    open_closed_streams,
    printing,
)

if TYPE_CHECKING:
    from dsi.command_line.arguments import Arguments

VERBS = {
    "quickstart": "dsi.commands.quickstart:quickstart",
    "prepare": "dsi.commands.prepare:prepare",
    "queries": "dsi.commands.queries:queries",
    "docids": "dsi.commands.docids:docids",
    "train": "dsi.commands.train:train",
    "update": "dsi.commands.update:update",
    "delete": "dsi.commands.delete:delete",
    "split": "dsi.commands.split:split",
    "continual": "dsi.commands.continual:continual",
    "search": "dsi.commands.search:search",
    "serve": "dsi.commands.serve:serve",
    "mcp": "dsi.commands.mcp:mcp",
    "evaluate": "dsi.commands.evaluate:evaluate",
    "compare": "dsi.commands.compare:compare",
    "info": "dsi.commands.info:info",
    "rollback": "dsi.commands.rollback:rollback",
    "prune": "dsi.commands.prune:prune",
    "push": "dsi.commands.push:push",
    "pull": "dsi.commands.pull:pull",
    "export": "dsi.commands.export:export",
}
"""Command -> where its function is, in the order of a typical workflow."""

_OF_ONE_PROCESS = (
    "prepare",
    "docids",
    "delete",
    "split",
    "info",
    "rollback",
    "prune",
    "push",
    "pull",
    "serve",
    "mcp",
    "export",
)
"""Commands that run in one process: under `torchrun`, the first process does all the work."""

_WRONG_PLACE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.EEXIST,
    errno.ELOOP,
    errno.EBUSY,
    errno.ENXIO,
)
_NO_ROOM = {
    errno.ENOSPC: "the disk is full. Free some space or choose another location",
    errno.EDQUOT: "the disk quota is exceeded. Free some space or choose another location",
    errno.EFBIG: "a file would be larger than the file system or ulimit -f allows. Raise the limit "
    "or choose another location",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code.

    Args:
        argv: The words after `dsi`; those of the process if None.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    with on_command_line():
        return _main(words)


def _main(words: list[str]) -> int:
    open_closed_streams()
    threading.excepthook = _of_thread
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(words)
    except BrokenPipeError:
        drop_standard_output()
        return 141
    except KeyboardInterrupt:
        return _fail(130, "interrupted. Run the same command again to resume")
    except Exception as error:
        if _has_switch("debug", words):
            traceback.print_exc()
        return _fail(*_exit_status(error, words))


def _of_thread(error: threading.ExceptHookArgs) -> None:
    """Reports what ended a thread, unless the main thread reports the same full disk."""
    number = error.exc_value.errno if isinstance(error.exc_value, OSError) else None
    if number not in _NO_ROOM:
        threading.__excepthook__(error)


def _run(words: list[str]) -> int:
    if not words:
        print(_command_overview(), file=sys.stderr)
        return 2
    verb, *rest = words
    if verb in ("-h", "--help", "help"):
        with printing():
            print(_command_overview())
        return 0
    if verb == "--version" or rest == ["--version"]:
        with printing():
            print(f"dsi-toolkit {_version()}")
        return 0
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"Did you mean dsi {near[0]}? " if near else ""
        noun = "option" if verb.startswith("-") else "command"
        raise InputError(f"unknown {noun} {verb!r}", hint=f"{hint}Choose from: {', '.join(VERBS)}")
    from dsi.libraries import silence_libraries

    silence_libraries(progress=not _has_switch("quiet", rest))
    arguments = arguments_of(verb)
    function = arguments.function
    try:
        call = arguments.parse(rest)
    except SystemExit:
        return 0
    if call.quiet:
        silence_libraries(progress=False)  # a --config file may set it
    several = os.environ.get("WORLD_SIZE", "1") != "1"
    if verb in _OF_ONE_PROCESS and several and not _is_first_process():
        return 0
    if call.json:
        from dsi.command_line.command_report import to_json

        with _standard_output_to_error():
            report = function(**call.values)
            text = to_json(report.data)
        if _is_first_process():
            with printing():
                print(text)
        return 0
    report = function(**call.values)
    if _is_first_process():
        with printing():
            report.show(console())
    return 0


def arguments_of(verb: str) -> Arguments:
    """Returns the command line of a verb.

    Args:
        verb: One of `VERBS`.
    """
    from dsi.command_line.arguments import Arguments

    module, _, name = VERBS[verb].partition(":")
    function = getattr(importlib.import_module(module), name)
    arguments: Arguments = getattr(function, "arguments", Arguments)(verb, function)
    return arguments


def _has_switch(switch: str, words: list[str]) -> bool:
    return f"--{switch}" in words or f"--{switch}=true" in words


@contextlib.contextmanager
def _standard_output_to_error() -> Iterator[None]:
    """Redirects everything printed inside, by Python or a C library, to standard error."""
    sys.stdout.flush()
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ValueError):
            descriptor = sys.stdout.fileno()
            saved = os.dup(descriptor)
            os.dup2(sys.stderr.fileno(), descriptor)
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, descriptor)
        with contextlib.redirect_stdout(sys.stderr):
            yield


def _is_first_process() -> bool:
    """Tells whether this is the `torchrun` process that prints."""
    return os.environ.get("RANK", "0") == "0"


def _fail(code: int, line: str) -> int:
    from dsi.command_line.command_report import visible

    with contextlib.suppress(OSError):
        first, *choices = map(shortened, line.splitlines() or [""])
        end = "" if choices else "."
        print(f"dsi: {visible(first).rstrip('.')}{end}", file=sys.stderr)
        print(*map(visible, choices), sep="\n", end="\n" if choices else "", file=sys.stderr)
        sys.stderr.flush()
    return code


def _exit_status(error: Exception, words: list[str]) -> tuple[int, str]:
    """Returns the exit code and the one-line message for an error."""
    if isinstance(error, InputError):
        return 2, str(error)
    if isinstance(error, StandardOutputError):
        return 2, f"standard output: {error}"
    message = " ".join(str(error).split())
    number = error.errno if isinstance(error, OSError) else None
    name = _final_path(error.filename) if isinstance(error, OSError) else None
    for reason, explanation in _NO_ROOM.items():
        # Compiled libraries report a full disk as text only.
        if number == reason or os.strerror(reason) in message:
            return 2, f"{name or _target(words)}: {explanation}"
    if _is_out_of_memory(error, message):
        why = f" ({message:.200})" if message else ""
        return 2, f"not enough memory{why}. Process less at a time, or use a larger machine"
    if number in _WRONG_PLACE and name is not None:
        return 2, f"{name}: {os.strerror(number).lower()}. Choose another location"
    hint = "" if _has_switch("debug", words) else ". Run it again with --debug to see the traceback"
    what = f"{type(error).__name__}: {message or 'no message'}"
    from data_prep.registry import foreign_entry  # here because `dsi --help` does not need it

    entry = foreign_entry(error)
    return (1, f"{what}{hint}") if entry is None else (2, f"{entry} raised {what}{hint}")


def _final_path(name: Any) -> Any:
    """Returns the path of a file, or of the folder around a temporary one, as a user writes it."""
    from data_prep.files import is_leftover

    if not isinstance(name, str):
        return name
    parts = Path(name).parts
    temporary = [is_leftover(part) or part.startswith(".new-") for part in parts]
    path = os.path.join(*parts[: temporary.index(True)] or ".") if any(temporary) else name
    with contextlib.suppress(OSError, ValueError):  # no current folder, or another drive
        relative = os.path.relpath(path)
        return path if relative.startswith("..") else relative
    return path


def _is_out_of_memory(error: Exception, message: str) -> bool:
    """Tells whether an allocation failed, in Python, numpy, or torch on any device."""
    phrases = ("not enough memory", "out of memory", "allocate memory", "bad_alloc")
    return isinstance(error, MemoryError) or any(part in message for part in phrases)


def _target(words: list[str]) -> str:
    """Guesses the output path of a command line, for an error that does not name its file."""
    pairs = zip(words, [*words[1:], ""], strict=True)
    options = [word.split("=", 1) if "=" in word else (word, after) for word, after in pairs]
    outputs = [value for option, value in options if option in ("--out", "--run")]
    existing = (word for word in words if Path(word).exists())  # INDEX comes before the inputs
    return outputs[-1] if outputs else next(existing, ".")


def _command_overview() -> str:
    width = min(shutil.get_terminal_size().columns, 100)
    about = (
        "Generative retrieval: a model that has memorized a corpus answers queries with the "
        "identifiers of documents."
    )
    every = "Every command takes --help, --help-all, --config FILE.yaml, --json and --quiet."
    lines = [
        "usage: dsi COMMAND [ARGS] [OPTIONS]",
        "",
        *textwrap.wrap(about, width),
        "",
        "Commands:",
        *(
            textwrap.fill(f"  {verb:<11} {_summary(verb)}", width, subsequent_indent=" " * 14)
            for verb in VERBS
        ),
        "",
        *textwrap.wrap(every, width, break_on_hyphens=False),
        "To try it: dsi quickstart",
    ]
    return "\n".join(lines)


def _summary(verb: str) -> str:
    """Returns the first line of the verb's docstring, read from its source without importing."""
    module, _, name = VERBS[verb].partition(":")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def _version() -> str:
    from dsi import __version__

    return __version__
