"""The page of every report: one HTML file for any screen, light or dark, and for print."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_prep.dataset import Document
from dsi.reports.charts import DARK, LIGHT, STYLE, Drawing

MOST_OF_TEXT = 240
"""Characters of a query or a document that an example shows."""


def _colors(theme: Mapping[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in theme.items())


_STYLE = f"""
:root {{ color-scheme: light dark; {_colors(LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_colors(DARK)} }} }}
{STYLE}
"""
_LAYOUT = """
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
.figures { display: grid; gap: 1rem; margin-top: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
figure { margin: 0; container-type: inline-size; } figure > svg { width: 100%; max-width: 32rem;
  height: auto; }
@container (max-width: 24rem) { svg text { font-size: 15px; } }
.names { display: none; }
dl.queries { margin: 0; } dl.queries dt { font-weight: 600; margin-top: .8rem; }
dl.queries dt, dl.queries dd { overflow-wrap: anywhere; }
dl.queries dd { margin: .1rem 0 0 1rem; }
dl.facts { display: grid; grid-template-columns: minmax(8rem, auto) 1fr; gap: .2rem 1rem;
  font-size: .875rem; } dl.facts dt { color: var(--soft); }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { body { padding: .7rem; }
  th small { display: none; } .names { display: block; }
  td.name, th.name { min-width: 6rem; max-width: 9rem; } .lead { font-size: 1.1rem; } }
@media print { body { max-width: none; font-size: 10pt; } .wide { overflow: visible; }
  table { font-size: 7pt; } th, td { padding: .15rem .3rem; } th small { display: none; }
  .names { display: block; } th.name, td.name { min-width: 0; }
  figure, tr, dl.queries > div { break-inside: avoid; } }
"""
_PRINT = {**LIGHT, "ink": "#000", "soft": "#444", "line": "#bbb"}
_STYLE += f"{_LAYOUT}@media print {{ :root {{ color-scheme: light; {_colors(_PRINT)} }} }}"


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


@dataclass(frozen=True)
class Example:
    """A query, the documents to show with it as (role, document), and a note."""

    query: str
    documents: Sequence[tuple[str, Document | None]]
    note: str = ""


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
    """Returns a table; the best value of a column is bold.

    Full names are in the headings, and below the table on phones and on paper.
    """
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
    names = "; ".join(f"{each.symbol}: {each.name}" for each in headings if each.name)
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
        + (f'<p class="soft names">{html.escape(names)}</p>' if names else "")
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


def figures(drawings: Sequence[tuple[Drawing, str]]) -> str:
    """Returns figures side by side if they fit: (figure, caption)."""
    inside = "".join(
        f"<figure>{drawing.svg()}<figcaption>{html.escape(caption)}</figcaption></figure>"
        for drawing, caption in drawings
    )
    return f'<div class="figures">{inside}</div>'


def examples(found: Sequence[Example]) -> str:
    """Returns queries with the texts of documents."""
    items = []
    for each in found:
        lines = "".join(f"<dd>{role}: {_shown(document)}</dd>" for role, document in each.documents)
        note = f'<dd class="soft">{html.escape(each.note)}</dd>' if each.note else ""
        items.append(f"<div><dt>{html.escape(_shortened(each.query))}</dt>{lines}{note}</div>")
    return f'<dl class="queries">{"".join(items)}</dl>'


def _shown(document: Document | None) -> str:
    if document is None:
        return "nothing"
    title = f"<b>{html.escape(document.title)}</b> " if document.title else ""
    return f"{title}{html.escape(_shortened(document.text))}"


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MOST_OF_TEXT else f"{text[:MOST_OF_TEXT]}…"


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Returns a list of names and values, which fits a phone."""
    items = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in rows
    )
    return f'<dl class="facts">{items}</dl>'


def remark(text: str) -> str:
    """Returns a line of small print."""
    return f'<p class="soft">{html.escape(text)}</p>'
