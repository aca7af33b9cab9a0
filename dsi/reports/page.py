"""The page of every report: one HTML file for any screen, light or dark, and for print."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #59636e; --line: #d5dae0;
  --shade: #f4f6f8; --c0: #0061a8; --c1: #b34700; --c2: #00755a; --c3: #a0327d; --c4: #6f5600;
  --c5: #3f6fb5; --c6: #7a4bc2; --c7: #5b6670; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e6eaee; --soft: #9aa5b1;
  --line: #37404a; --shade: #1e242b; --c0: #5cb3f2; --c1: #f59a4d; --c2: #3ecfa4; --c3: #ec8fca;
  --c4: #dcc14f; --c5: #93b8f2; --c6: #bfa0f5; --c7: #aab5c0; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 68rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.3rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.lead { font-size: 1.25rem; line-height: 1.4; margin: 0 0 1rem; }
.soft, figcaption { color: var(--soft); font-size: .875rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; vertical-align: bottom;
  border-bottom: 1px solid var(--line); }
th small { display: block; font-weight: normal; color: var(--soft); white-space: normal;
  min-width: 5.5rem; }
th.name, td.name { text-align: left; position: sticky; left: 0; background: var(--paper);
  white-space: normal; min-width: 8rem; max-width: 22rem; }
.figures { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
figure { margin: 0; } figure > svg { max-width: 32rem; } img { max-width: 100%; }
  svg { max-width: 100%; height: auto; } figure > svg { width: 100%; }
svg text { font: 12px system-ui, sans-serif; fill: var(--soft); }
svg text.title, svg text.letter { fill: var(--ink); font-weight: 600; }
svg .grid { stroke: var(--line); } svg .rule { stroke: var(--soft); stroke-dasharray: 1 3; }
ul.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem;
  font-size: .875rem; } ul.legend svg { vertical-align: middle; }
dl.queries { margin: 0; } dl.queries dt { font-weight: 600; margin-top: .8rem; }
dl.queries dd { margin: .1rem 0 0 1rem; overflow-wrap: anywhere; }
@media (max-width: 40rem) { body { padding: .7rem; } th small { display: none; }
  td.name, th.name { min-width: 6rem; max-width: 9rem; } .lead { font-size: 1.1rem; } }
@media print { :root { color-scheme: light; --paper: #fff; --ink: #000; --soft: #444; --line: #bbb;
  --shade: #f4f6f8; --c0: #0061a8; --c1: #b34700; --c2: #00755a; --c3: #a0327d; --c4: #6f5600;
  --c5: #3f6fb5; --c6: #7a4bc2; --c7: #5b6670; }
  body { max-width: none; font-size: 10pt; } .wide { overflow: visible; } table { font-size: 7pt; }
  th, td { padding: .15rem .3rem; } th small { display: none; } th.name, td.name { min-width: 0; }
  figure, tr, dl.queries > div { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Heading:
    """A table heading: a symbol with an arrow towards better values, and its full name."""

    symbol: str
    name: str = ""


@dataclass(frozen=True)
class Cell:
    """A table cell: its text, its superscript, and whether it is the best."""

    text: str
    raised: str = ""
    best: bool = False


def page(title: str, conclusion: str, sections: Sequence[str]) -> str:
    """Returns a page: title, conclusion, then the sections.

    Args:
        title: Plain text.
        conclusion: One sentence of plain text.
        sections: Each as HTML.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>{html.escape(title)}</h1>\n"
        f'<p class="lead">{html.escape(conclusion)}</p>\n'
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def table(headings: Sequence[Heading], rows: Sequence[Sequence[Cell]]) -> str:
    """Returns a table whose first two columns name a row; the best value of a column is bold."""
    head = "".join(
        f'<th{_named(place)} scope="col">{html.escape(heading.symbol)}'
        + (f"<small>{html.escape(heading.name)}</small>" if heading.name else "")
        + "</th>"
        for place, heading in enumerate(headings)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{_named(place)}>{_cell(cell)}</td>" for place, cell in enumerate(row))
        + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _named(place: int) -> str:
    return ' class="name"' if place == 0 else ""


def _cell(cell: Cell) -> str:
    text = html.escape(cell.text)
    text = f"<b>{text}</b>" if cell.best else text
    return text + (f"<sup>{html.escape(cell.raised)}</sup>" if cell.raised else "")


def section(heading: str, *content: str) -> str:
    """Returns a section of a page with a heading."""
    return f"<section><h2>{html.escape(heading)}</h2>\n" + "\n".join(content) + "</section>"


def figures(drawn: Sequence[tuple[str, str]]) -> str:
    """Returns figures side by side if they fit: (SVG, caption)."""
    inside = "".join(
        f"<figure>{drawing}<figcaption>{html.escape(caption)}</figcaption></figure>"
        for drawing, caption in drawn
    )
    return f'<div class="figures">{inside}</div>'


def remark(text: str) -> str:
    """Returns a line of small print."""
    return f'<p class="soft">{html.escape(text)}</p>'
