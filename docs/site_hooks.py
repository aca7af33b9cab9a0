"""Hooks of the documentation site: pages that are generated from the code.

Each command has a page with its arguments, options, types, choices and defaults, read from the
function behind it as `dsi COMMAND --help-all` does. `CHANGELOG.md` becomes a page, too.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from dsi.cli import VERBS, arguments_of
from dsi.help import COMMON, Group, Option, description_of

ROOT = Path(__file__).parents[1]
TABLE = "<!-- commands -->"
"""Where `commands.md` shows the table of all commands."""


def on_config(config: Any) -> Any:
    """Adds the pages of the commands to the navigation, below `commands.md`."""
    pages = [{f"dsi {verb}": f"commands/{verb}.md"} for verb in VERBS]
    for section in config.nav:
        entries = section.get("Reference", [])
        for place, entry in enumerate(entries):
            if entry == {"Commands": "commands.md"}:
                entries[place] = {"Commands": ["commands.md", *pages]}
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the generated pages."""
    for verb in VERBS:
        page = File.generated(config, f"commands/{verb}.md", content=command_page(verb))
        files.append(page)
    files.append(File.generated(config, "changes.md", content=changes()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fills in the table of commands."""
    if page.file.src_uri != "commands.md":
        return markdown
    lines = ["| command | what it does |", "|---|---|"]
    for verb in VERBS:
        summary = description_of(arguments_of(verb).function).partition("\n")[0]
        lines.append(f"| [`dsi {verb}`](commands/{verb}.md) | {summary} |")
    return markdown.replace(TABLE, "\n".join(lines))


def command_page(verb: str) -> str:
    """Returns the reference page of a command, in Markdown."""
    arguments = arguments_of(verb)
    lines = [f"# dsi {verb}", "", description_of(arguments.function), "", "```text", arguments.usage(), "```"]
    for group in arguments.groups():
        lines += section(group, arguments.positionals)
    lines += ["", "## Every command", ""]
    for name, text in COMMON.items():
        lines += [f"`--{name}`", f":   {text}", ""]
    return "\n".join(lines)


def section(group: Group, positionals: list[str]) -> list[str]:
    """Returns the lines of a group of options, the common ones first."""
    lines = ["", f"## {group.heading}", ""]
    for option in sorted(group.options, key=lambda option: option.advanced):
        lines += entry(option, positional=option.name in positionals)
    return lines


def entry(option: Option, *, positional: bool) -> list[str]:
    """Returns the lines of an option: its name, what it does, its type, choices and default."""
    named = option.name.upper() if positional else f"--{option.name} {option.value}"
    anchor = f'<span id="{html.escape(option.name)}"></span>'
    text = html.escape(option.help, quote=False)
    return [f"{anchor}`{named}`", f":   {text} <small>{option.facts}</small>".rstrip(), ""]


def changes() -> str:
    """Returns the changelog with the links of a page in this folder."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "](")
