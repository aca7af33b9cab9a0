"""Commands in the documentation are accepted by the programs they call."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = [
    (page.name, command)
    for page in PAGES
    for block in re.findall(r"^```\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    for command in block.replace("\\\n", " ").splitlines()
    if command.startswith("torchrun ")
]


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_torchrun_hands_every_word_on(page, command):
    _, _, wanted = command.partition(" dsi ")
    understood = get_args_parser().parse_args(shlex.split(command)[1:])
    assert understood.module
    assert understood.training_script == "dsi"
    assert understood.training_script_args == shlex.split(wanted)


def test_there_are_such_commands():
    assert len(COMMANDS) >= 4


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_lead_to_a_file_and_a_heading(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if not link.startswith(("https:", "http:")):
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
