"""The help page of a command: the most common options, or all of them.

Options marked as `Advanced`, individually or with their whole group, appear in `--help-all` only.
The values of an option are described by its type.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import shutil
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.marks import ADVANCED, Only, Range, choices_of, hints_of, is_group, marks_of, members

_INDENT = 26
_WIDEST = 100
COMMON = {
    "config FILE.yaml": "Read options from a YAML file; the command line overrides them.",
    "json": "Print one JSON object on standard output instead of tables.",
    "quiet": "Show no progress bars.",
    "debug": "Show the traceback of an error.",
    "help": "Show the most common options.",
    "help-all": "Show all options.",
}


@dataclass(frozen=True)
class Option:
    """One parameter of a command.

    Args:
        name: Its full name, such as `loop.steps`.
        hint: Its type.
        help: What it does.
        default: Its default; `inspect.Parameter.empty` for none.
        choices: The allowed names, if it is one of a list.
        advanced: Whether only `--help-all` shows it.
    """

    name: str
    hint: Any
    help: str
    default: Any
    choices: tuple[str, ...]
    advanced: bool

    @property
    def facts(self) -> str:
        """Returns type and default in brackets, if informative."""
        if self.default is inspect.Parameter.empty:
            required = "" if _is_list(self.hint) else "required, "
            return f"({required}type: {type_name(self.hint)})"
        kind = [] if self.choices or _is_bool(self.hint) else [f"type: {type_name(self.hint)}"]
        show_default = self.default is not None and self.default not in ("", [], ())
        kind += [f"default: {self._default}"] if show_default else []
        return f"({', '.join(kind)})" if kind else ""

    @property
    def _default(self) -> str:
        if isinstance(self.default, bool):
            return str(self.default).lower()
        if isinstance(self.default, (list, tuple)):
            return ",".join(map(str, self.default))
        return str(self.default)

    @property
    def value(self) -> str:
        """Returns the placeholder for its value."""
        if _is_bool(self.hint):
            return "{true,false}"
        if self.choices:
            return f"{{{','.join(self.choices)}}}"
        return self.name.rpartition(".")[2].upper()


@dataclass(frozen=True)
class Group:
    """Options under one heading."""

    heading: str
    options: list[Option] = field(default_factory=list)


def help_page(
    verb: str,
    function: Callable[..., Any],
    usage: str,
    positionals: Sequence[str],
    hints: Mapping[str, Any],
    *,
    everything: bool,
) -> str:
    """Returns the help of a command.

    Args:
        verb: Its name.
        function: The function behind it.
        usage: The usage line.
        positionals: Positional parameters.
        hints: The type of each parameter, with its marks.
        everything: Whether to show advanced options too.
    """
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    lines = [f"usage: {usage}", "", _wrapped(description_of(function), width)]
    left_out = 0
    for group in groups_of(function, positionals, hints):
        visible = [option for option in group.options if everything or not option.advanced]
        left_out += len(group.options) - len(visible)
        if visible:
            lines += ["", f"{group.heading}:"]
        for option in visible:
            label = option.name if option.name in positionals else f"--{option.name}"
            what = f"{label.upper()}" if option.name in positionals else f"{label} {option.value}"
            lines += _entry(what, f"{option.help} {option.facts}".strip(), width)
    lines += ["", "Every command:"]
    for name, text in COMMON.items():
        lines += _entry(f"--{name}", text, width)
    if left_out:
        lines += ["", f"{left_out} more options: dsi {verb} --help-all"]
    return "\n".join(lines)


def description_of(function: Callable[..., Any]) -> str:
    """Returns what a command does: its docstring up to the arguments."""
    return (inspect.getdoc(function) or "").split("\nArgs:")[0].strip()


def _wrapped(text: str, width: int) -> str:
    """Returns paragraphs wrapped to a width."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    return "\n\n".join(
        textwrap.fill(paragraph, width, break_long_words=False, break_on_hyphens=False)
        for paragraph in paragraphs
    )


def groups_of(
    function: Callable[..., Any], positionals: Sequence[str], hints: Mapping[str, Any]
) -> list[Group]:
    """Returns the options of a command in groups, the ungrouped ones first.

    Args:
        function: The function behind the command.
        positionals: Positional parameters.
        hints: The type of each parameter, with its marks.
    """
    words, top = Group("Arguments"), Group("Options")
    groups: list[Group] = []
    descriptions = _help_of(function)
    for parameter in inspect.signature(function).parameters.values():
        name, hint = parameter.name, hints[parameter.name]
        marks = marks_of(hint)
        if not is_group(hint):
            into = words if name in positionals else top
            into.options.append(_option(name, hint, descriptions, parameter.default))
        elif "spread" in marks:
            _fill(top, groups, "", parameter.default, ADVANCED in marks)
        else:
            inside = Group(_heading(descriptions.get(name), hint))
            groups.append(inside)
            _fill(inside, groups, f"{name}.", parameter.default, ADVANCED in marks)
    return [group for group in (words, top, *groups) if group.options]


def _fill(group: Group, groups: list[Group], prefix: str, defaults: Any, advanced: bool) -> None:
    """Adds the fields of a dataclass to a group, and a group for each dataclass inside it."""
    owner: Any = type(defaults)
    hints, descriptions = hints_of(owner), _help_of(owner)
    for entry in dataclasses.fields(owner):
        if not entry.init:
            continue
        name, default = entry.name, getattr(defaults, entry.name)
        hidden = advanced or ADVANCED in marks_of(hints[name])
        if is_group(hints[name]):
            inside = Group(_heading(descriptions.get(name), hints[name]))
            groups.append(inside)
            _fill(inside, groups, f"{prefix}{name}.", default, hidden)
        else:
            option = _option(name, hints[name], descriptions, default)
            group.options.append(
                dataclasses.replace(option, name=f"{prefix}{name}", advanced=hidden)
            )


def _option(name: str, hint: Any, descriptions: Mapping[str, str], default: Any) -> Option:
    text = " ".join(descriptions.get(name, "").split())
    text = f"{text}." if text and text[-1] not in ".?!" else text
    return Option(name, hint, text, default, choices_of(hint), ADVANCED in marks_of(hint))


def _heading(description: str | None, hint: Any) -> str:
    ((owner, _),) = members(hint)
    return (description or (owner.__doc__ or "").partition("\n")[0]).strip().rstrip(".")


@functools.cache
def _help_of(owner: Any) -> dict[str, str]:
    """Returns the description of each parameter of a function, or field of a dataclass.

    Fields are described by the string below them or under "Attributes" of their class; descriptions
    are inherited.
    """
    import docstring_parser

    if not isinstance(owner, type):
        parsed = docstring_parser.parse(inspect.getdoc(owner) or "")
        return {param.arg_name: param.description or "" for param in parsed.params}
    descriptions: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        if dataclasses.is_dataclass(base):
            parsed = docstring_parser.parse_from_object(base)
            descriptions |= {param.arg_name: param.description or "" for param in parsed.params}
    return descriptions


def _entry(what: str, text: str, width: int) -> Iterator[str]:
    """Yields an option and its text, side by side if the option is short."""
    lines = textwrap.wrap(text, width - _INDENT, break_on_hyphens=False) or [""]
    head = f"  {what}"
    if len(head) < _INDENT - 1:
        yield f"{head:<{_INDENT}}{lines.pop(0)}".rstrip()
    else:
        yield head
    for line in lines:
        yield " " * _INDENT + line


def _is_bool(hint: Any) -> bool:
    return {kind for kind, _ in members(hint)} - {type(None)} == {bool}


def _is_list(hint: Any) -> bool:
    return any(typing.get_origin(kind) in (list, tuple) for kind, _ in members(hint))


def type_name(hint: Any) -> str:
    """Returns a type and its bounds in short: int, float > 0, str, path, or a list of these."""
    return " | ".join(
        _type_name(kind, marks) for kind, marks in members(hint) if kind is not type(None)
    )


def _type_name(kind: Any, marks: Sequence[Any]) -> str:
    if typing.get_origin(kind) in (list, tuple):
        return f"{type_name(typing.get_args(kind)[0])},..."
    word = "path" if kind is Path else getattr(kind, "__name__", str(kind))
    bounds = [str(mark) for mark in marks if isinstance(mark, Range)]
    properties = [str(mark) for mark in marks if isinstance(mark, Only)]
    return "".join([" ".join([word, *bounds]), *properties])
