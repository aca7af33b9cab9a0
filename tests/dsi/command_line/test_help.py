"""Help pages: the content of the first one, and every option on the second."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest

from data_prep.marks import Advanced, Names
from dsi.cli import VERBS
from dsi.command_line.arguments import SPREAD, Arguments

KindName = Annotated[str, Names(lambda: ("round", "flat"))]
ARGUMENTS = {}


def arguments(verb: str) -> Arguments:
    if verb not in ARGUMENTS:
        module, _, name = VERBS[verb].partition(":")
        ARGUMENTS[verb] = Arguments(verb, getattr(importlib.import_module(module), name))
    return ARGUMENTS[verb]


def options_on(page: str) -> list[str]:
    return re.findall(r"^  --([\w.-]+)", page, re.MULTILINE)


@dataclass(frozen=True)
class Wheel:
    """A wheel of the thing."""

    kind: KindName = "round"
    """Kind of wheel"""
    spokes: Advanced[int] = 12
    """Number of spokes"""


@dataclass(frozen=True)
class Parts:
    """The parts."""

    wheel: Wheel = field(default_factory=Wheel)
    """Front wheel"""
    spare: Advanced[Wheel] = field(default_factory=Wheel)
    """Spare wheel"""
    color: Literal["red", "blue"] | None = None
    """Color of all parts"""


def ride(
    *,
    out: str,
    far: bool = True,
    speed: Advanced[float] = 1.5,
    parts: Annotated[Parts, SPREAD] = Parts(),
) -> None:
    """Rides.

    Args:
        out: Where to.
        far: Go far.
        speed: Speed.
        parts: Not told.
    """


FIRST = """\
usage: dsi ride --out OUT [options]

Rides.

Options:
  --out OUT               Where to. (required, type: str)
  --far {true,false}      Go far. (default: true)
  --color {red,blue}      Color of all parts.

Front wheel:
  --wheel.kind {round,flat}
                          Kind of wheel. (default: round)

Every command:
"""
ADDED = {"speed", "wheel.spokes", "spare.kind", "spare.spokes"}


@pytest.mark.parametrize("times", [1, 2], ids=["once", "again"])
def test_advanced_options_are_on_the_second_page_only(times, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for _ in range(times):  # the first one replaces annotations, which carry the markers
        riding = Arguments("ride", ride)
    first, second = riding.help(), riding.help(everything=True)
    assert first.startswith(FIRST)
    assert first.endswith("4 more options: dsi ride --help-all")
    assert set(options_on(second)) - set(options_on(first)) == ADDED
    assert "Spare wheel:" in second
    assert "more options" not in second


def test_both_pages_are_options_of_the_command_line(capsys):
    riding = Arguments("ride", ride)
    for word, everything in (("--help", False), ("-h", False), ("--help-all", True)):
        with pytest.raises(SystemExit):
            riding.parse([word])
        assert capsys.readouterr().out.rstrip() == riding.help(everything=everything)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_told_on_the_page_of_all(verb):
    command = arguments(verb)
    page = command.help(everything=True)
    shown = {name for name in options_on(page) if name in command.hints}
    assert shown == set(command.hints) - set(command.positionals)
    told = re.split(r"\n  (?=\S)", page)
    for entry in told[1:]:
        words = re.sub(r"\([^()]*(type|default|required)[^()]*\)", "", " ".join(entry.split()))
        assert len(words.split()) > 2, f"{entry!r} says nothing"


@pytest.mark.parametrize("verb", VERBS)
def test_the_first_page_is_short(verb):
    first = [name for name in options_on(arguments(verb).help()) if name in arguments(verb).hints]
    assert 1 <= len(first) <= 30


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_pages_fit_the_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    for verb in ("train", "search"):
        options = arguments(verb).help(everything=True).split("\nOptions:\n")[1]
        texts = [line for line in options.splitlines() if line.startswith(" " * 26)]
        assert max(map(len, texts)) <= min(columns, 100)
        assert len(texts) > 10


def test_headings_are_what_people_look_for():
    page = arguments("train").help()
    for heading in ("Model", "Optimizer", "Training loop", "Data mix", "Teacher", "SAM", "LoRA"):
        assert f"\n{heading}:\n" in page
    assert "\nSearch guidance:\n" in arguments("search").help(everything=True)


def test_choices_are_printed_by_the_type():
    page = arguments("train").help(everything=True)
    for line in (
        "--docids {atomic,description,keywords,learned,naive,pq,random,rq,rqvae,semantic,title,"
        "url}",
        "--optimizer.schedule {linear,cosine,constant,inverse-sqrt}",
        "--sam.weights {all,rows,backbone,encoder,decoder,norms}",
    ):
        assert line in page
