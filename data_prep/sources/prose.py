"""Splits plain text, Markdown and HTML into sections: headings and the text below them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?)^(?:---|\.\.\.)[ \t]*\r?$\n?", re.DOTALL | re.M)
_NOT_A_WORD = re.compile(r"[^\w\s-]")
_UNSHOWN = ("script", "style", "template", "noscript", "svg")
_INLINE = """
a abbr b bdi bdo cite code data dfn em font i kbd label mark q s samp small span strike strong
sub sup time tt u var wbr
"""
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


@dataclass
class Section:
    """A heading, and the text up to the next one.

    Attributes:
        heading: Empty for text before the first heading.
        anchor: Fragment of a link to the section, without `#`; empty without a heading.
        paragraphs: The text.
    """

    heading: str = ""
    anchor: str = ""
    paragraphs: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The paragraphs, separated by empty lines."""
        return "\n\n".join(part for part in self.paragraphs if part)


@dataclass
class Prose:
    """The content of a file.

    Attributes:
        sections: The sections in order; the first may have no heading.
        title: The title outside the headings: `title` in front matter, or `<title>`.
        title_first: Whether it takes precedence over the first heading.
    """

    sections: list[Section]
    title: str = ""
    title_first: bool = False

    def title_or(self, otherwise: str) -> str:
        """Returns the title: the first heading, or the title outside the headings."""
        heading = next((section.heading for section in self.sections if section.heading), "")
        first, second = (self.title, heading) if self.title_first else (heading, self.title)
        return first or second or otherwise


def read_plain(text: str) -> Prose:
    """Reads plain text, which has no headings."""
    return Prose([Section(paragraphs=[text.strip()])])


def read_markdown(text: str) -> Prose:
    """Reads Markdown (CommonMark with tables), without markup; links become their text."""
    from markdown_it import MarkdownIt

    front, text = _front_matter(text)
    sections = [Section()]
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for place, token in enumerate(tokens):
        if token.type in ("fence", "code_block"):
            sections[-1].paragraphs.append(token.content.rstrip())
        elif token.type == "html_block":
            above, *below = read_html(token.content).sections
            sections[-1].paragraphs.append(above.text)
            sections += below
        elif token.type == "inline":
            inline = _inline(token.children or [])
            if tokens[place - 1].type == "heading_open":
                sections.append(Section(" ".join(inline.split())))
            else:
                sections[-1].paragraphs.append(inline)
    return Prose(_anchored(sections), front, title_first=True)


def _inline(children: Iterable[Any]) -> str:
    """Returns the text of a line: images become their alternative text, tags are dropped."""
    parts = []
    for child in children:
        if child.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif child.type in ("text", "code_inline", "image"):
            parts.append(child.content)
    return "".join(parts).strip()


def _front_matter(text: str) -> tuple[str, str]:
    """Returns the title in YAML front matter, if there is one, and the text below it."""
    match = _FRONT_MATTER.match(text)
    if match is None:
        return "", text
    import yaml

    try:
        front = yaml.safe_load(match[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        return "", text
    if not isinstance(front, dict):
        return "", text
    title = front.get("title")
    return (" ".join(title.split()) if isinstance(title, str) else ""), text[match.end() :]


def read_html(text: str) -> Prose:
    """Reads the visible text of HTML, without scripts and styles."""
    page = _Page()
    page.feed(text)
    page.close()
    page.end_paragraph()
    return Prose(_anchored(page.sections), " ".join("".join(page.title).split()))


class _Page(HTMLParser):
    """Collects the sections of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.sections = [Section()]
        self.title: list[str] = []
        self._words: list[str] = []
        self._unshown: list[str] = []
        self._inline = frozenset(_INLINE.split())
        self._in_title = False
        self._in_heading = False
        self._kept_as_is = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "title" and "svg" not in self._unshown:
            self._in_title = True
        if tag in _UNSHOWN:
            self._unshown.append(tag)
        if tag in self._inline or self._in_heading:
            return
        self.end_paragraph()
        if tag == "pre":
            self._kept_as_is += 1
        if tag in _HEADINGS and not self._unshown:
            self._in_heading = True
            self.sections.append(Section(anchor=dict(attributes).get("id") or ""))

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in _UNSHOWN:
            self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        if tag in self._unshown:
            del self._unshown[self._unshown.index(tag) :]
        if tag in _HEADINGS and self._in_heading:
            self.sections[-1].heading = " ".join("".join(self._words).split())
            self._words.clear()
            self._in_heading = False
        if tag in self._inline or self._in_heading:
            return
        self.end_paragraph()
        if tag == "pre":
            self._kept_as_is = max(0, self._kept_as_is - 1)

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif not self._unshown:
            self._words.append(data)

    def end_paragraph(self) -> None:
        """Adds the text read since the last paragraph."""
        text = "".join(self._words)
        self._words.clear()
        text = text.strip("\r\n") if self._kept_as_is else " ".join(text.split())
        if text.strip():
            self.sections[-1].paragraphs.append(text)


def _anchored(sections: list[Section]) -> list[Section]:
    """Adds missing anchors to sections, unique and derived from headings as on GitHub."""
    anchors: set[str] = set()
    for section in sections:
        if not section.heading:
            section.anchor = ""
            continue
        anchor = section.anchor or "-".join(_NOT_A_WORD.sub("", section.heading.lower()).split(" "))
        free, number = anchor or "section", 0
        while free in anchors:
            number += 1
            free = f"{anchor or 'section'}-{number}"
        anchors.add(free)
        section.anchor = free
    return sections
