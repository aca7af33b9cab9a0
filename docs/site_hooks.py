"""Hooks of the documentation site: pages that are generated from the code.

Each command has a page with its arguments, options, types, choices and defaults, read from the
function behind it as `dsi COMMAND --help-all` does. `CHANGELOG.md` becomes a page, too.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from dsi.cli import VERBS, arguments_of
from dsi.command_line.help import COMMON, Group, Option, description_of

ROOT = Path(__file__).parents[1]
COMMANDS = "commands/README.md"
TABLE = "<!-- commands -->"
"""Where that page shows the table of all commands."""
LINK = re.compile(r"\[[\w-]+\.md\]\((?P<target>[\w/.-]+\.md)(?P<anchor>#[\w-]+)?\)")
"""A link whose text is the name of a file."""


def on_config(config: Any) -> Any:
    """Adds the pages of the commands to the navigation."""
    [reference] = [section["Reference"] for section in config.nav if "Reference" in section]
    place = reference.index({"Commands": COMMANDS})
    pages = [{f"dsi {verb}": f"commands/{verb}.md"} for verb in VERBS]
    reference[place] = {"Commands": [COMMANDS, *pages]}
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the generated pages."""
    for verb in VERBS:
        page = File.generated(config, f"commands/{verb}.md", content=command_page(verb))
        files.append(page)
    files.append(File.generated(config, "changes.md", content=changes()))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Fills in the table of commands, and shows the title of a page instead of its file name."""
    if page.file.src_uri == COMMANDS:
        markdown = markdown.replace(TABLE, table_of_commands())
    here = Path(page.file.abs_src_path or ROOT / "docs" / page.file.src_uri).parent

    def titled(link: re.Match[str]) -> str:
        target = here / link["target"]
        if not target.is_file():
            return link[0]
        heading = re.search(r"^# (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        title = heading[1] if heading else link["target"]
        return f"[{title}]({link['target']}{link['anchor'] or ''})"

    return LINK.sub(titled, markdown)


def table_of_commands() -> str:
    """Returns a table of all commands, with the first line of their help."""
    lines = ["| command | what it does |", "|---|---|"]
    for verb in VERBS:
        summary = description_of(arguments_of(verb).function).partition("\n")[0]
        lines.append(f"| [`dsi {verb}`]({verb}.md) | {summary} |")
    return "\n".join(lines)


def command_page(verb: str) -> str:
    """Returns the reference page of a command, in Markdown."""
    arguments = arguments_of(verb)
    description = description_of(arguments.function)
    lines = [f"# dsi {verb}", "", description, "", "```text", arguments.usage(), "```"]
    groups = arguments.groups()
    for group in sorted(groups, key=lambda group: all(each.advanced for each in group.options)):
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
    facts = f" <small>{html.escape(option.facts)}</small>" if option.facts else ""
    return [f"{anchor}`{named}`", f":   {text}{facts}", ""]


def changes() -> str:
    """Returns the changelog with the links of a page in this folder."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "](")
