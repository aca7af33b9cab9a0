"""Writes the tables of README.md and docs/ from the record of the benchmarks.

    python benchmarks/tables.py            # after cells were measured
    python benchmarks/tables.py --check    # only says which pages disagree with the record

A page marks the place of a table by two comments, and what stands between them is replaced:

    <!-- table: NAME -->
    <!-- /table -->

What each table shows is in `page_tables.py`. A line that rests on a void row of the record is
marked, with the reason under the table. The tests fail where a page and the record disagree.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from record import Row

from data_prep.errors import InputError
from data_prep.files import replacing_file

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
OPEN, CLOSE = r"^<!-- table: (?P<name>[\w-]+) -->\n", r"^<!-- /table -->$"
PLACE = re.compile(f"(?P<open>{OPEN})(?P<body>.*?)(?P<close>{CLOSE})", re.DOTALL | re.MULTILINE)
MARK = "†"
"""Stands behind the first cell of a line that rests on a void row."""
WITHDRAWN = "[Figures withdrawn](effectiveness.md#figures-withdrawn)"


@dataclass(frozen=True)
class Line:
    """A line of a table.

    Attributes:
        cells: What is printed.
        rows: The rows of the record that the cells come from.
    """

    cells: Sequence[str]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Table:
    """A table of a page; each line has a cell for each column."""

    columns: Sequence[str]
    lines: Sequence[Line]


def main() -> None:
    """Writes the tables, or says which pages disagree with the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 on a difference"
    )
    check = parser.parse_args().check
    from page_tables import TABLES

    changed = []
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = refreshed(before, TABLES, where=page)
        if before == after:
            continue
        changed.append(page)
        print(f"{page.relative_to(ROOT)}: {'differs from the record' if check else 'written'}")
        if not check:
            with replacing_file(page) as fresh:
                fresh.write_text(after, encoding="utf-8")
    if check and changed:
        raise SystemExit(1)


def refreshed(text: str, tables: dict[str, Callable[[], Table]], where: Path) -> str:
    """Returns a page with its tables made anew from the record.

    Args:
        text: The page.
        tables: Name -> what makes the table.
        where: The file, for errors.

    Raises:
        InputError: The page asks for a table that there is not, or a comment lacks its other one.
    """

    def fill(place: re.Match[str]) -> str:
        if place["name"] not in tables:
            raise InputError(f"there is no table {place['name']!r} in page_tables.py", where=where)
        return place["open"] + rendered(tables[place["name"]]()) + place["close"]

    places = list(PLACE.finditer(text))
    opened, closed = (len(re.findall(each, text, re.MULTILINE)) for each in (OPEN, CLOSE))
    if not len(places) == opened == closed:
        raise InputError(
            f"{opened} comments open a table, {closed} close one, {len(places)} pairs match",
            where=where,
        )
    return PLACE.sub(fill, text)


def rendered(table: Table) -> str:
    """Returns a table in Markdown, with a remark under it where rows are void."""
    lines = [_markdown(table.columns), "|" + "---|" * len(table.columns)]
    reasons: dict[str, None] = {}
    for line in table.lines:
        if len(line.cells) != len(table.columns):
            raise ValueError(f"{line.cells} has not a cell for each of {table.columns}")
        void = [row["void"] for row in line.rows if "void" in row]
        reasons |= dict.fromkeys(void)
        first, *others = line.cells
        lines.append(_markdown([f"{first} {MARK}" if void else first, *others]))
    if reasons:
        causes = "; ".join(reason.removesuffix(": measure again") for reason in reasons)
        remark = f"{MARK} **Void**: {causes}. See {WITHDRAWN}."
        lines += ["", *textwrap.wrap(remark, 100, break_on_hyphens=False)]
    return "\n".join(lines) + "\n"


def _markdown(cells: Iterable[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


if __name__ == "__main__":
    main()
