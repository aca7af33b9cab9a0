"""Every block of code in the documentation is run, in order, or says why not.

The blocks of a page run in a folder of their own that has the files which they name
(`page_folder`). A block whose first line is `# FILE` is written to that file. A block that cannot
be run has a comment with the reason in front of it; its commands are still parsed. `NOT_RUN` counts
these, and `ELSEWHERE` names the tests of blocks that another file runs.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import page_folder
import pytest
import yaml
from torch.distributed.run import get_args_parser

from dsi.cli import arguments_of, main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
LANGUAGES = ("bash", "python", "yaml", "toml", "json", "text")
ELSEWHERE = {
    ("docs/contributing.md", "python"): ("tests/test_contributing.py", 4),
    ("docs/integrations.md", "python"): ("tests/test_integrations_page.py", 7),
    ("docs/logits-processor.md", "python"): ("tests/dsi/search/test_logits_processor.py", 1),
    ("docs/python.md", "python"): ("tests/dsi/test_building.py", 4),
    ("docs/serving.md", "python"): ("tests/dsi/serving/test_running.py", 1),
}
NOT_RUN = {
    "README.md": 2,
    "CONTRIBUTING.md": 1,
    "docs/contributing.md": 3,
    "docs/datasets.md": 3,
    "docs/identifiers.md": 1,
    "docs/integrations.md": 1,
    "docs/lexical.md": 3,
    "docs/multi-vector.md": 1,
    "docs/objectives.md": 1,
    "docs/pseudo-queries.md": 1,
    "docs/scaling.md": 3,
    "docs/searching.md": 3,
    "docs/serving.md": 2,
    "docs/training.md": 1,
    "docs/tutorial.md": 1,
    "docs/updating.md": 1,
}
SHORTER = (
    ("train", "", {"--loop.steps": "2", "--loop.batch": "16", "--per_doc": "3"}),
    ("train", "--model.pretrained", {"--mix.document_length": "32"}),
    ("queries", "", {"--per_doc": "3"}),
    ("queries", "--train-generator", {"--memory.steps": "2"}),
    ("queries", "--seq2seq.model", {"--seq2seq.query_length": "4"}),
    ("compare", "", {"--dry_run": "true"}),  # tests/dsi/commands/test_walks.py trains a grid
)
"""Verb, a word of the command, and options that are added unless the command has them."""
ABSENT = (
    "ds/pseudo",
    "index/training",
    "index/updating",
    "index/versions/0002/strategy_state",
)
"""Paths of the trees in the pages that are there only during a command, or with some strategies."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: Path of the page from the root.
        language: What is behind the fence.
        code: The lines inside.
        reason: Why it is not run; None if it is.
    """

    page: str
    language: str
    code: str
    reason: str | None

    @property
    def elsewhere(self) -> bool:
        return (self.page, self.language) in ELSEWHERE

    def commands(self) -> Iterator[str]:
        """Yields the commands of a block of bash."""
        for line in self.code.replace("\\\n", " ").splitlines():
            parts = [part.strip() for part in line.split("&&")]
            yield from (part for part in parts if part and not part.startswith("#"))


BLOCKS = [
    Block(page.relative_to(ROOT).as_posix(), found["language"], found["code"], found["reason"])
    for page in PAGES
    for found in BLOCK.finditer(page.read_text("utf-8"))
]
RUN = [block for block in BLOCKS if block.reason is None and not block.elsewhere]


def test_every_fence_belongs_to_a_block_of_a_known_language():
    for page in PAGES:
        fences = re.findall(r"^\s*(?:```|~~~).*$", page.read_text("utf-8"), re.MULTILINE)
        name = page.relative_to(ROOT).as_posix()
        assert len(fences) == 2 * sum(block.page == name for block in BLOCKS), name
    assert {block.language for block in BLOCKS} <= set(LANGUAGES)


def test_blocks_that_are_not_run_are_these():
    left_out = [block for block in BLOCKS if block.reason is not None]
    assert Counter(block.page for block in left_out) == NOT_RUN
    for block in left_out:
        for path in re.findall(r"\btests/[\w/.]+\w", block.reason):
            assert (ROOT / path).exists(), block.reason


def test_blocks_that_another_file_runs_are_these():
    counts = Counter((block.page, block.language) for block in BLOCKS if block.elsewhere)
    assert counts == {key: count for key, (_, count) in ELSEWHERE.items()}
    for (page, _), (test, _) in ELSEWHERE.items():
        code = (ROOT / test).read_text("utf-8")
        assert Path(page).name in code
        assert "exec(" in code


@pytest.mark.parametrize(
    ("page", "command"),
    [
        (block.page, command)
        for block in BLOCKS
        if block.language == "bash" and block.reason
        for command in block.commands()
        if command.startswith(("dsi ", "torchrun "))
    ],
)
def test_a_command_that_is_not_run_is_parsed(page, command):
    """`torchrun` hands every word on, and `dsi` knows each option and the type of its value."""
    words = shlex.split(command, comments=True)
    if words[0] == "torchrun":
        understood = get_args_parser().parse_args(words[1:])
        assert understood.module
        assert understood.training_script == "dsi"
        words = ["dsi", *understood.training_script_args]
        assert words == shlex.split(command[command.index(" dsi ") :])
    arguments_of(words[1]).parse(words[2:])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder with all files, to be copied."""
    folder = tmp_path_factory.mktemp("pages") / "files"
    folder.mkdir()
    page_folder.write(folder)
    return folder


@pytest.fixture
def folder(written, tmp_path, monkeypatch):
    """The working folder of a page."""
    shutil.copytree(written, tmp_path / "work", symlinks=True)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.mark.parametrize("page", dict.fromkeys(block.page for block in RUN))
def test_a_page_does_what_it_says(page, folder, capsys):
    names: dict = {"__name__": "__main__"}
    shown = ""
    for block in [block for block in RUN if block.page == page]:
        named = re.match(r"# ([\w./-]+\.\w+)\n", block.code)
        if named:
            file = folder / named[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.code, encoding="utf-8")
        if block.language == "python" and not named:
            exec(compile(block.code, page, "exec"), names)
        elif block.language == "bash" and page == "docs/extending.md":
            in_a_process_of_its_own(block, folder)
        elif block.language == "bash":
            for command in block.commands():
                capsys.readouterr()
                run(command, shorter=page != "docs/tutorial.md")
            shown = capsys.readouterr().out
        elif block.language == "text":
            if block.code.partition("\n")[0].endswith("/"):
                check_tree(block.code, folder)
            else:
                check_output(block.code, shown)
        elif not named:
            check_data(block)


def run(command: str, *, shorter: bool) -> None:
    """Runs one command, `dsi` in this process."""
    words = shlex.split(command, comments=True)
    if words[:2] == ["pip", "install"]:
        extras = re.fullmatch(r"dsi-toolkit\[(\S+)\]", words[2])
        known = re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
        assert extras
        assert set(extras[1].split(",")) <= set(known)
    elif words[0] != "dsi":
        in_bash(command)
    else:
        shutil.rmtree(written_by(words), ignore_errors=True)
        more = shortening(words) if shorter else []
        assert main([*words[1:], *more, "--quiet"]) == 0, command


def written_by(words: list[str]) -> str:
    """Returns the folder that a command makes.

    It is removed first: each line is an example of its own, and another may have made it before.
    """
    if "--out" in words:
        return words[words.index("--out") + 1]
    return "index" if words[1] == "train" else "nothing"


def shortening(words: list[str]) -> list[str]:
    """Returns the options with which a command takes a second."""
    more = []
    for verb, word, options in SHORTER:
        if words[1] == verb and (not word or word in words):
            more += [each for pair in options.items() if pair[0] not in words for each in pair]
    return more


def in_bash(script: str, *paths: Path) -> str:
    """Returns what a script prints that has `dsi` and `python` on its path.

    Args:
        script: Lines of bash.
        paths: Folders to import from.
    """
    programs = Path.cwd() / "programs"
    programs.mkdir(exist_ok=True)
    for name, words in {"dsi": " -m dsi", "python": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{words} "$@"\n')
        (programs / name).chmod(0o755)
    places = [str(place) for place in (*paths, ROOT)]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(places),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def in_a_process_of_its_own(block: Block, folder: Path) -> None:
    """Installs a package into a folder, and runs the commands where it can be imported."""
    lines = []
    for command in block.commands():
        words = shlex.split(command)
        if words[0] == "pip":
            pip = [sys.executable, "-m", *words, "--target", "installed"]
            pip += ["--no-deps", "--no-build-isolation", "--quiet"]
            subprocess.run(pip, check=True, capture_output=True)
        elif words[0] == "dsi":
            shutil.rmtree(written_by(words), ignore_errors=True)
            lines.append(f"assert main({[*words[1:], *shortening(words), '--quiet']!r}) == 0")
        else:
            assert "first-words identifiers" in in_bash(command, folder)
    if lines:
        code = "\n".join(["from dsi.cli import main", *lines])
        shown = in_bash(f"python -c {shlex.quote(code)}", folder / "installed")
        assert "first-words identifiers" in shown
        assert "version 0002 is live" in shown


def check_tree(code: str, folder: Path) -> None:
    """Checks that the files and folders of a tree are there."""
    at: list[str] = []
    for line in code.splitlines():
        entry = re.match(r"( *)([\w./]+)(?:  |$)", line)
        if entry and len(entry[1]) <= 6:
            at = [*at[: len(entry[1]) // 2], entry[2].strip("/")]
            path = "/".join(at)
            assert (folder / path).exists() or path in ABSENT, path


def check_output(code: str, shown: str) -> None:
    """Checks that the last command has printed these lines, up to the digits of scores."""

    def lines(text: str) -> list[str]:
        plain = re.sub(r"-?\d+\.\d+", "0.0", text)
        return [" ".join(line.split()) for line in plain.splitlines() if line.strip()]

    assert lines(code) == lines(shown)


def check_data(block: Block) -> None:
    """Checks that a file is what its language says, and the command in it."""
    if block.language == "yaml":
        arguments_of("train").parse(["ds", "--out", "index", *as_words(yaml.safe_load(block.code))])
    else:
        for server in json.loads(block.code)["mcpServers"].values():
            verb, *rest = server["args"]
            assert server["command"] == "dsi"
            arguments_of(verb).parse(rest)


def as_words(values: dict, prefix: str = "") -> list[str]:
    """Returns the options that a file of `--config` sets, as words."""
    words: list[str] = []
    for name, value in values.items():
        inside = isinstance(value, dict)
        full = f"{prefix}{name}"
        words += as_words(value, f"{full}.") if inside else [f"--{full}", str(value)]
    return words


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
