"""TREC markup: finds records such as <DOC> ... </DOC>, and strips tags from their text."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from data_prep.errors import InputError
from data_prep.limits import LONGEST_RECORD

_TAG = re.compile(r"<(/?)([A-Za-z][\w:.-]*)(\s[^<>]*)?/?>")
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_NOTES = re.compile(r"<!--.*?-->|<![A-Za-z][^<>]*>|<\?[^<>]*\?>", re.DOTALL)
_ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|\w+);")
_UNSHOWN = re.compile(r"<(script|style)\b[^<>]*>.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
# HTML and TREC newspaper elements whose closing tag is absent or optional.
_UNCLOSED = """
area base br col embed hr img input link meta source track wbr
p li dt dd tr td th thead tbody tfoot option colgroup frame isindex basefont
cellrule rowrule
"""


def plain(markup: str) -> str:
    """Returns text without tags, scripts and styles, and with entities decoded.

    Angle brackets are a tag if it is closed in the same text, needs no closing tag, is a closing
    tag, or has an attribute value. Others are text: `vector<int>`, `a < b and c > d`. The content
    of a CDATA section is text as it stands.
    """
    markup = _CDATA.sub(lambda section: html.escape(section.group(1)), markup)
    markup = _NOTES.sub(" ", _UNSHOWN.sub(" ", markup))
    closed = {tag.group(2).lower() for tag in _TAG.finditer(markup) if tag.group(1)}
    closed.update(_UNCLOSED.split())

    def without(tag: re.Match[str]) -> str:
        closing, name, attributes = tag.group(1), tag.group(2).lower(), tag.group(3) or ""
        no_attributes = not attributes.strip(" /\t\r\n")
        is_tag = closing or "=" in attributes or (no_attributes and name in closed)
        return " " if is_tag else tag.group()

    text = _TAG.sub(without, markup)
    return _ENTITY.sub(lambda entity: html.unescape(entity.group()), text).strip()


def marked(
    numbered: Iterable[tuple[int, str]], name: str, inside: str, path: Path
) -> Iterator[tuple[int, str]]:
    """Yields (line number, content) of each record between <NAME> and </NAME>.

    A tag may have attributes, and may be anywhere in a line or span several.

    Args:
        numbered: (line number, line).
        name: Name of the tag, case-insensitive.
        inside: A tag that occurs once in each record, and nowhere else.
        path: The file, for messages.

    Raises:
        InputError: A tag is missing, or a record is longer than LONGEST_RECORD.
    """
    mark = re.compile(rf"<(/?)({name}|{inside})(?:\s[^<>]*)?>", re.IGNORECASE)
    begun_mark = re.compile(rf"</?(?:{name}|{inside})(?:\s[^<>]*)?$", re.IGNORECASE)
    begun: int | None = None
    parts: list[str] = []
    held, size, seen, number = "", 0, 0, 0
    for number, line in numbered:
        line, held = held + line, ""
        cut = begun_mark.search(line.rstrip("\r\n"))
        if cut and len(line) < LONGEST_RECORD:
            line, held = line[: cut.start()], line[cut.start() :]
        at = 0
        for match in mark.finditer(line):
            where = f"{path}:{number}"
            closing, which = bool(match.group(1)), match.group(2).lower()
            if which == inside.lower():
                if closing:
                    continue
                if begun is None:
                    raise InputError(f"<{inside}> is outside a <{name}>", where=where)
                seen += 1
                if seen > 1:
                    raise InputError(
                        f"a second <{inside}> in the <{name}> of line {begun}",
                        where=where,
                        hint=f"End each record with </{name}>",
                    )
            elif not closing:
                if begun is not None:
                    raise InputError(f"a <{name}> inside a <{name}>", where=where)
                begun, parts, size, seen, at = number, [], 0, 0, match.end()
            else:
                if begun is None:
                    raise InputError(f"</{name}> has no matching <{name}>", where=where)
                parts.append(line[at : match.start()])
                yield begun, "".join(parts)
                begun = None
        if begun is not None:
            parts.append(line[at:])
            size += len(line)
            if size > LONGEST_RECORD:
                raise InputError(
                    f"a <{name}> is longer than {LONGEST_RECORD:,} characters",
                    where=f"{path}:{begun}",
                )
    if begun is not None:
        raise InputError(f"<{name}> has no matching </{name}>", where=f"{path}:{begun}")
    if held:
        raise InputError("a tag has no closing >", where=f"{path}:{number}")
