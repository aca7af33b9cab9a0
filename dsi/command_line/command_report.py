"""The result of a command: a JSON object for programs, a table for people."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console


MOST_SHOWN = 1000
"""Characters of a table's cell that are shown."""
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that affect a terminal: controls, marks of the writing direction, surrogates."""


class Report(Protocol):
    """The result of a command, which the command line prints in one of two ways."""

    @property
    def data(self) -> Mapping[str, Any]:
        """The output of `--json`, which `json.dumps` accepts."""
        ...

    def show(self, console: Console) -> None:
        """Prints the result for people."""
        ...


@dataclass(frozen=True)
class TableReport:
    """A table between a title and closing lines, which is all that most commands print.

    Args:
        data: The result for programs.
        title: The line above the table.
        columns: Column headings, all empty for none. A column of numbers only is right-aligned.
        rows: One sequence of cells per row, as long as `columns`. Floats are shown with three
            decimals, or three digits if too small for that, integers with thousands separators,
            None as a dash, others with `str`.
        closing: Lines below the table, such as the next step or what was left out.
        opening: Lines between the title and the table.
    """

    data: Mapping[str, Any]
    title: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    closing: Sequence[str] = field(default=())
    opening: Sequence[str] = ()

    def show(self, console: Console) -> None:
        """Prints title, table and closing lines; empty parts are omitted."""
        if self.title:
            console.print(
                visible(self.title), style="bold", markup=False, highlight=False, emoji=False
            )
        self._print_lines(console, self.opening)
        if self.rows:
            # A terminal wraps lines that are too long; if truncated, their end would be lost.
            self._print_table(console)
        self._print_lines(console, self.closing)

    def _print_table(self, console: Console) -> None:
        if console.is_terminal:
            console.print(self._table(), crop=False)
            return
        with console.capture() as captured:
            console.print(self._table(), crop=False)
        # Cells are padded to the width of their column, which a file need not contain.
        for line in captured.get().splitlines():
            text = line.rstrip()
            console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)

    @staticmethod
    def _print_lines(console: Console, lines: Sequence[str]) -> None:
        for line in lines:
            # If wrapped here, a suggested command could not be copied.
            console.print(visible(line), markup=False, highlight=False, emoji=False, soft_wrap=True)

    def _width(self, number: int) -> int:
        """Returns the minimum width of a column that keeps its cells unbroken."""
        from rich.cells import cell_len

        cells = [self.columns[number], *(shown(row[number]) for row in self.rows)]
        return min(MOST_WHOLE, max(map(cell_len, cells)))

    def _table(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, show_header=any(self.columns))
        for number, heading in enumerate(self.columns):
            numeric = all(
                row[number] is None
                or (isinstance(row[number], (int, float)) and not isinstance(row[number], bool))
                for row in self.rows
            )
            # Names and numbers are not broken; a last column of text takes the remaining width.
            last = number == len(self.columns) - 1
            table.add_column(
                Text(heading),
                justify="right" if numeric else "left",
                overflow="fold",
                min_width=None if last and not numeric else self._width(number),
            )
        for row in self.rows:
            table.add_row(*(Text(shown(cell)) for cell in row))
        return table


MOST_WHOLE = 50
"""Characters of a name that a narrow table does not break."""


def shown(cell: Any) -> str:
    """Formats a table cell for people."""
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:.3f}" if abs(cell) >= 0.0005 or not cell else f"{cell:.3g}"
    text = visible(str(cell))
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def heading(measure: str) -> str:
    """Returns the name of a measure in tables: Hits@k for ir-measures' Success@k."""
    return measure.replace("Success@", "Hits@")


def visible(text: str) -> str:
    r"""Escapes control characters in text for a terminal.

    Characters that move the cursor, set colors or the window title, or change the writing direction
    are shown as escapes, such as \x1b; every white-space character becomes a space.
    """
    return _UNSEEN.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match.group()
    if character.isspace() and character not in "\x1c\x1d\x1e\x1f":
        return " "
    return (
        character.encode("ascii", "backslashreplace").decode()
        if ord(character) > 127
        else (f"\\x{ord(character):02x}")
    )


def to_json(data: Mapping[str, Any]) -> str:
    """Returns `data` as one line of strict JSON: paths as text, NaN and infinities as null.

    Terminal control characters get JSON escapes.
    """
    text = json.dumps(_plain(data), ensure_ascii=False, allow_nan=False)
    return _UNSEEN.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    # numpy scalars and arrays know their Python value; anything else becomes a string.
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)
