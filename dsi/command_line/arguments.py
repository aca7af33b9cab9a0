"""Builds the command line of a function from its signature.

A command is a plain function with annotations and a Google docstring. Parameters before the `*` are
positional words on the command line, parameters after it are options, and a dataclass parameter is
a group of options whose help is the string under each field. A dataclass annotated as `SPREAD` is
not a group: its fields join the other options, so that commands can share them. jsonargparse
converts, validates, documents and instantiates; this module arranges the words for it, so that
options and positional words mix freely, a YAML file may set any value, and every mistake is
reported as a one-line error. `dsi.command_line.help` prints the help pages.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import inspect
import json
import re
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.checks import check_value, described
from data_prep.errors import InputError
from data_prep.former_names import current_name, current_value
from data_prep.marks import hints_of, is_group, marks_of, members
from dsi.command_line.standard_streams import printing

if TYPE_CHECKING:
    import yaml

    from dsi.command_line.help import Group

_PARSERS: dict[tuple[Any, ...], Any] = {}
"""Parsers by function and names of options: building one takes longer than most commands."""

SPREAD = "spread"
"""In `Annotated[Options, SPREAD]`: the fields of the dataclass are options of the command."""
_SWITCHES = ("json", "quiet", "debug")
_ALIKE = 0.75
"""Similarity, from 0 to 1, of a misspelled option to the one that was meant (difflib)."""


@dataclasses.dataclass(frozen=True)
class Call:
    """A parsed command line.

    Args:
        values: One value for each parameter of the function.
        json: Whether `--json` was given.
        debug: Whether `--debug` was given.
        quiet: Whether `--quiet` was given.
    """

    values: dict[str, Any]
    json: bool
    debug: bool
    quiet: bool


class Arguments:
    """The command line of one function.

    Args:
        verb: What the user types after `dsi`.
        function: The function behind it. Its annotations must resolve at run time.
    """

    def __init__(self, verb: str, function: Callable[..., Any]) -> None:
        self.verb = verb
        self.function = function
        self._hints = hints_of(function)
        hints = typing.get_type_hints(function)
        self._spread = {
            name: hints[name] for name, hint in self._hints.items() if SPREAD in marks_of(hint)
        }
        # If they were left as strings, jsonargparse would resolve them by importing what the module
        # imports for type checkers only, including torch.
        function.__annotations__ = hints
        parameters = inspect.signature(function).parameters.values()
        self.positionals = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        self._required = {p.name for p in parameters if p.default is p.empty}
        self.hints: dict[str, Any] = {}
        """The type of every single value with its marks, by its full name (`train.steps`)."""
        self._short: dict[str, str] = {}
        """The switch of each group that has one: `sam` sets `sam.rho`."""
        self._hidden = _hidden(
            {p.name for p in parameters} - self._spread.keys(), self._spread.values()
        )
        for parameter in parameters:
            _resolve(hints[parameter.name])
            prefix = "" if parameter.name in self._spread else parameter.name
            skip = self._hidden if not prefix else ()
            flat = _flatten(prefix, self._hints[parameter.name])
            short = _short(prefix, self._hints[parameter.name])
            self.hints.update({k: v for k, v in flat.items() if k.split(".")[0] not in skip})
            self._short.update({k: v for k, v in short.items() if k not in skip})

    def parse(self, words: Sequence[str]) -> Call:
        """Parses the words after the verb.

        Raises:
            InputError: An unknown, missing, surplus or ill-typed word, or a bad `--config`.
            SystemExit: `--help` was requested and has been printed.
        """
        parsed = self._parse_words(words)
        switches = {name: _pop_switch(name, parsed) for name in _SWITCHES}
        if parsed.help is not None:
            with printing():
                print(self.help(everything=parsed.help == "all"))
            raise SystemExit(0)
        parser = self._parser()
        for name in self.positionals:
            if name in self._required and name not in parsed.values:
                if _is_list(self.hints[name]):
                    parsed.values[name] = "[]"
                else:
                    raise InputError(f"{name.upper()} is missing", hint=self._usage_hint())
        try:
            space = parser.parse_args([f"--{name}={text}" for name, text in parsed.values.items()])
            for name, text in parsed.values.items():
                hint, where = self.hints[name], parsed.where.get(name, f"--{name}")
                if not text and Path in _kinds(hint):
                    raise InputError(f"{where} is empty", hint="Give a path, or omit it")
                check_value(where, space.get(name), hint)
            arguments = vars(parser.instantiate(space))
        except argparse.ArgumentError as error:
            raise self._explain(str(error), parsed) from None
        for name, group in self._spread.items():
            fields = [field.name for field in _init_fields(group) if field.name not in self._hidden]
            arguments[name] = group(**{field: arguments[field] for field in fields})
        values = {name: arguments[name] for name in inspect.signature(self.function).parameters}
        return Call(values, **switches)

    def _parse_words(self, words: Sequence[str]) -> _ParsedValues:
        """Collects the words into values by full name; later words win, files come first."""
        for word in words:
            try:
                word.encode("utf-8")
            except UnicodeEncodeError:
                raise InputError(f"{word!r} is not valid UTF-8", where="command line") from None
        parsed = _ParsedValues()
        configs: list[str] = []
        plain: list[str] = []
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "--":
                plain += rest
                break
            if not _looks_like_option(word):
                plain.append(word)
                continue
            name, _, inline = word.lstrip("-").partition("=")
            typed = name.replace("-", "_")
            name = self._current(typed)
            if name in ("h", "help", "help_all"):
                parsed.help = "all" if name == "help_all" else (parsed.help or "common")
            elif name in _SWITCHES:
                parsed.values[name] = inline if "=" in word else "true"
                parsed.where[name] = f"--{name}"
            elif name == "config" or name in self.hints:
                if "=" in word:
                    text = inline
                elif _is_switch(self.hints.get(name)) and (
                    not rest or not self._is_switch_value(name, rest[0])
                ):
                    if rest and rest[0].lower() in _NEARLY_TRUTH:
                        raise InputError(f"{rest[0]!r} is not true or false", where=f"--{name}")
                    text = "true"
                elif not rest or _looks_like_option(rest[0]):
                    raise InputError(f"--{name} needs a value", hint=self._usage_hint())
                else:
                    text = rest.pop(0)
                if name == "config":
                    configs.append(text)
                else:
                    parsed.values[name] = self._list_text(name, current_value(typed, text))
                    parsed.where[name] = f"--{name}"
            elif name.startswith("no_") and _is_switch(self.hints.get(name[3:])) and not inline:
                parsed.values[name[3:]] = "false"
            else:
                raise self._unknown(f"option {word.partition('=')[0]}", name, "--")
        self._place(plain, parsed)
        self._refuse_shared_standard_input(configs, parsed)
        for file in reversed(configs):
            for name, text in self._read_config(Path(file)).items():
                if name not in parsed.values:
                    parsed.values[name] = text
                    parsed.where[name] = f"{file}: {name}"
        self._refuse_shared_standard_input(configs, parsed)
        return parsed

    def _refuse_shared_standard_input(self, configs: list[str], parsed: _ParsedValues) -> None:
        """Raises InputError if two arguments name standard input, which has one content."""
        readers = ["--config" for file in configs if file == "-"]
        for name, text in parsed.values.items():
            if name in self.hints and name not in _WRITTEN:
                times = _times_standard_input(self.hints[name], text)
                readers += [parsed.where.get(name, f"--{name}")] * times
        if len(readers) > 1 and not Path("-").exists():
            raise InputError(
                f"standard input (-) is given twice, for {readers[0]} and for {readers[1]}",
                hint="Give a file for one of them",
            )

    def _is_switch_value(self, name: str, word: str) -> bool:
        """Returns whether the word after a boolean option is its value."""
        return word in _values_of_switch(self.hints[name])

    def _place(self, plain: list[str], parsed: _ParsedValues) -> None:
        """Assigns the positional words to the positional parameters, from left to right."""
        rest = list(plain)
        for place, name in enumerate(self.positionals):
            if not rest:
                return
            if _is_list(self.hints[name]):
                # One word is left for each parameter after it.
                after = [
                    other for other in self.positionals[place + 1 :] if other in self._required
                ]
                count = max(1, len(rest) - len(after))
                parsed.values[name] = json.dumps(rest[:count])
                rest = rest[count:]
            else:
                parsed.values[name] = rest.pop(0)
            parsed.where[name] = name.upper()
        if rest:
            raise InputError(
                f"unexpected argument {rest[0]!r} for dsi {self.verb}",
                hint=self._intended_option(rest[0]) or self._usage_hint(),
            )

    def _intended_option(self, word: str) -> str | None:
        """Returns the option that a surplus word may be meant for, if only one takes a text."""
        names = [
            name
            for name, hint in self.hints.items()
            if name not in self.positionals and _kinds(hint) - {type(None)} == {str}
        ]
        return f"Did you mean --{names[0]} {word}?" if len(names) == 1 else None

    def _read_config(self, file: Path) -> dict[str, str]:
        """Returns the values of a YAML file by full name, as strings for the parser."""
        import yaml

        from data_prep.compression import open_uncompressed

        try:
            with open_uncompressed(file) as opened:
                text = opened.read().decode("utf-8-sig")
            content = yaml.load(text, _loader())
        except OSError as error:
            raise InputError(f"cannot read it ({error.strerror})", where=file) from None
        except UnicodeDecodeError:
            raise InputError("not valid UTF-8", where=file) from None
        except InputError:
            raise
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f" at line {mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or error
            raise InputError(f"not valid YAML{line} ({problem})", where=file) from None
        except (ValueError, AttributeError, RecursionError) as error:  # a number, date, nesting
            raise InputError(f"not a valid YAML value ({error!s:.200})", where=file) from None
        if content is None:
            return {}
        if not isinstance(content, Mapping):
            raise InputError(
                f"lines of `name: value` are expected, not a {type(content).__name__}",
                where=file,
            )
        texts: dict[str, str] = {}
        for name, value in self._flatten_config(content, ""):
            if name not in self.hints and name not in _SWITCHES:
                raise self._unknown(f"key {name!r}", name, "", where=file)
            if isinstance(value, str) and name in self.positionals and _is_list(self.hints[name]):
                value = [value]
            elif isinstance(value, str) and name in self.hints:
                value = self._list_text(name, value)
            if name in texts:  # as `loop: {steps: 3}` and as `loop.steps: 3`
                raise InputError(f"the key {name!r} appears twice", where=file)
            texts[name] = value if isinstance(value, str) else json.dumps(value, default=str)
        return texts

    def _flatten_config(self, content: Mapping[Any, Any], prefix: str) -> Iterable[tuple[str, Any]]:
        """Yields full names and values; a mapping is flattened only where a group is expected."""
        for key, value in content.items():
            typed = f"{prefix}{key}".replace("-", "_")
            name = current_name(typed) if isinstance(value, Mapping) else self._current(typed)
            group = any(option.startswith(f"{name}.") for option in self.hints)
            if isinstance(value, Mapping) and (group or name not in self.hints):
                yield from self._flatten_config(value, f"{name}.")
            else:
                yield name, current_value(typed, value)

    def _current(self, name: str) -> str:
        """Translates a former name of an option, or that of a group, to the current full name."""
        if name in self.hints:
            return name
        command = f"{self.verb}."
        return self._short.get(name, current_name(command + name).removeprefix(command))

    def _list_text(self, name: str, text: str) -> str:
        """Converts `--names a,b` to the list syntax of jsonargparse, `[a, b]`.

        Where a type allows both one value and a list, a text without a comma is the one value.
        """
        if "," not in text and _is_list(self.hints[name]) and _allows_one(self.hints[name]):
            return text
        if _is_list(self.hints[name]) and not text.lstrip().startswith("["):
            return json.dumps([part.strip() for part in text.split(",") if part.strip()])
        return text

    def _parser(self) -> Any:
        from jsonargparse import ArgumentParser, set_parsing_settings

        key = (self.function, *self.hints)
        if key in _PARSERS:
            return _PARSERS[key]
        set_parsing_settings(docstring_parse_attribute_docstrings=False)
        parser = ArgumentParser(exit_on_error=False, allow_abbrev=False, add_help=False)
        parser.add_function_arguments(self.function, as_group=False, skip=set(self._spread))
        for group in self._spread.values():
            parser.add_class_arguments(group, as_group=False, skip=self._hidden)
        _PARSERS[key] = parser
        return parser

    def help(self, *, everything: bool = False) -> str:
        """Returns the help of the command: the most common options, or all of them."""
        from dsi.command_line.help import help_page

        return help_page(
            self.verb,
            self.function,
            self.usage(),
            self.positionals,
            self._hints,
            everything=everything,
        )

    def groups(self) -> list[Group]:
        """Returns the arguments and options in groups, with type, choices, default and help."""
        from dsi.command_line.help import groups_of

        return groups_of(self.function, self.positionals, self._hints)

    def usage(self) -> str:
        """Returns the call in one line: `dsi search INDEX [QUERY ...] [options]`."""
        words = []
        for name in self.positionals:
            placeholder = f"{name.upper()} ..." if _is_list(self.hints[name]) else name.upper()
            optional = name not in self._required or _is_list(self.hints[name])
            words.append(f"[{placeholder}]" if optional else placeholder)
        options = self._required.difference(self.positionals)
        words += [f"--{name} {name.upper()}" for name in self.hints if name in options]
        return " ".join(["dsi", self.verb, *words, "[options]"])

    def _usage_hint(self) -> str:
        return f"Usage: {self.usage()}"

    def _unknown(self, what: str, name: str, dashes: str, where: Path | None = None) -> InputError:
        see = f"see dsi {self.verb} --help"
        *others, last = [f"{dashes}{option}" for option in self._similar(name)] or [""]
        meant = " or ".join(filter(None, [", ".join(others), last]))
        hint = f"Did you mean {meant}? Or {see}" if meant else see.capitalize()
        return InputError(f"unknown {what}", where=where, hint=hint)

    def _similar(self, name: str) -> list[str]:
        """Returns the options that an unknown name may stand for, three at most."""
        options = [option for option in self.hints if option not in self.positionals]
        spelled_alike = difflib.get_close_matches(
            name, [*options, *_SWITCHES, "config"], n=1, cutoff=_ALIKE
        )
        if spelled_alike:
            return spelled_alike
        leaf, words = name.rpartition(".")[2], name.replace("_", " ").casefold()
        described = [option for group in self.groups() for option in group.options]
        described.sort(key=lambda option: option.advanced)
        for meant in (
            lambda option: option.name.startswith(f"{name}."),  # `--model` for `--model.size`
            lambda option: option.name.rpartition(".")[2] == leaf,  # `--steps` for `--loop.steps`
            lambda option: words in option.help.casefold(),  # `--learning_rate`
            lambda option: option.name.rpartition(".")[2] in leaf.split("_"),  # `--max_steps`
        ):
            found = [option.name for option in described if meant(option)]
            if found:
                return found[:3]
        return []

    def _explain(self, message: str, parsed: _ParsedValues) -> InputError:
        """Turns an error of jsonargparse into one line in terms of the user's own words."""
        missing = re.search(r"arguments? (?:are|is) required: (.+)", message) or re.search(
            r'(?:Key|Option) ["\'](.+?)["\'] is required', message
        )
        if missing:
            return InputError(f"--{missing[1]} is missing", hint=self._usage_hint())
        key = re.search(r'key "([\w.]+)"', message)
        name = key[1] if key else ""
        if name in parsed.values and name in self.hints:
            return InputError(
                f"{parsed.values[name]!r:.200} is not {described(self.hints[name])}",
                where=parsed.where[name],
            )
        return InputError(" ".join(message.split()), hint=self._usage_hint())


@dataclasses.dataclass
class _ParsedValues:
    """The values from words and files: strings by full name, and the source of each."""

    values: dict[str, str] = dataclasses.field(default_factory=dict)
    where: dict[str, str] = dataclasses.field(default_factory=dict)
    help: str | None = None
    """"common" or "all" where help is asked for."""


_TRUTH = ("true", "false")
_NEARLY_TRUTH = (*_TRUTH, "yes", "no", "on", "off", "0", "1")


_WRITTEN = frozenset({"out", "run", "table", "per_query", "report"})
"""Options that name files to write, where - is standard output."""


def _times_standard_input(hint: Any, text: str) -> int:
    """Returns how many files of an argument are standard input."""
    if not _is_list(hint):
        return int(text == "-" and bool(_kinds(hint) & {Path, str}))
    if not any(Path in typing.get_args(kind) for kind in _kinds(hint)):
        return 0  # words such as queries and document ids
    try:
        return list(json.loads(text)).count("-")
    except ValueError:
        return 0  # not a list, which the parser reports


def _pop_switch(name: str, parsed: _ParsedValues) -> bool:
    """Removes a switch from the values and returns whether it is on.

    Raises:
        InputError: It is neither true nor false.
    """
    text = parsed.values.pop(name, "false")
    if text not in _TRUTH:
        raise InputError(
            f"{text!r} is not true or false",
            where=parsed.where[name],
            hint=f"Omit the value: --{name}",
        )
    return text == "true"


def _looks_like_option(word: str) -> bool:
    return word.startswith("-") and word != "-" and not re.fullmatch(r"-\.?\d.*", word)


def _flatten(name: str, hint: Any) -> dict[str, Any]:
    """Returns the type of `name`, or of each of its fields if the type is a dataclass.

    With an empty name the fields have no prefix.
    """
    if not is_group(hint):
        return {name: hint}
    ((group, _),) = members(hint)
    inside: dict[str, Any] = {}
    for entry in _init_fields(group):
        inside.update(_flatten(f"{name}.{entry.name}".lstrip("."), hints_of(group)[entry.name]))
    return inside


def _short(name: str, hint: Any) -> dict[str, str]:
    """Returns the full name of the switch of each group: `--hops 2` sets `hops.count`."""
    if not is_group(hint):
        return {}
    ((group, _),) = members(hint)
    inside: dict[str, str] = {}
    switch = getattr(group, "_switch", None)
    if name and switch is not None:
        inside[name] = f"{name}.{switch}"
    for entry in _init_fields(group):
        inside.update(_short(f"{name}.{entry.name}".lstrip("."), hints_of(group)[entry.name]))
    return inside


def _hidden(names: Collection[str], spread: Iterable[Any]) -> set[str]:
    """Returns the groups of spread dataclasses whose name is that of an option of the command.

    Identifier kinds of other packages have such groups: they keep their defaults.
    """
    groups = (
        (entry.name, hints_of(each)[entry.name]) for each in spread for entry in _init_fields(each)
    )
    return {name for name, hint in groups if name in names and is_group(hint)}


def _init_fields(hint: Any) -> list[dataclasses.Field[Any]]:
    """Returns the fields of a dataclass that a caller can set."""
    return [entry for entry in dataclasses.fields(hint) if entry.init]


def _resolve(hint: Any) -> None:
    """Resolves type names in a dataclass and the dataclasses inside it, as for functions."""
    if not (isinstance(hint, type) and dataclasses.is_dataclass(hint)):
        return
    hints_of(hint)
    hints = typing.get_type_hints(hint)
    hint.__annotations__ = {name: hints[name] for name in hint.__annotations__}
    initializer: Any = hint.__init__
    initializer.__annotations__ = {name: hints.get(name) for name in initializer.__annotations__}
    for entry in dataclasses.fields(hint):
        entry.type = hints[entry.name]
        _resolve(hints[entry.name])


def _kinds(hint: Any) -> set[Any]:
    """Returns the types of a union, or the type itself, without marks."""
    return {kind for kind, _ in members(hint)}


def _is_switch(hint: Any) -> bool:
    """Tells whether an option is a boolean; its default may be None."""
    return _kinds(hint) <= {bool, type(None)} and bool in _kinds(hint)


def _values_of_switch(hint: Any) -> tuple[str, ...]:
    return (*_TRUTH, "null") if type(None) in _kinds(hint) else _TRUTH


def _is_list(hint: Any) -> bool:
    return any(
        typing.get_origin(kind) in (list, tuple, Sequence) or kind in (list, tuple)
        for kind in _kinds(hint)
    )


def _allows_one(hint: Any) -> bool:
    """Tells whether a type allows a single value that is not null, perhaps beside a list."""
    return any(kind is not type(None) and not _is_list(kind) for kind in _kinds(hint))


def _loader() -> type[yaml.SafeLoader]:
    """Returns a safe YAML loader that refuses a key given twice, of which the last would count."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key {key.value!r} appears twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    return Loader
