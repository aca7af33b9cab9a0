"""What a command returns: one object for programs, one table for people."""

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
"""What a terminal obeys: controls, marks of the direction of writing, halves of characters."""


class Report(Protocol):
    """The outcome of a command, which the command line prints in one of two ways."""

    @property
    def data(self) -> Mapping[str, Any]:
        """What `--json` prints: nothing but what `json.dumps` accepts."""
        ...

    def show(self, console: Console) -> None:
        """Prints the outcome for people."""
        ...


@dataclass(frozen=True)
class TableReport:
    """A table between a title and closing lines; the whole of what most commands print.

    Args:
        data: The outcome for programs.
        title: The line above the table.
        columns: Column headings, all empty for none. A column whose every cell is a number is
            set to the right.
        rows: One sequence of cells per row, as long as `columns`. Floats are shown with three
            decimals, or digits where they are too small for that, integers with thousands
            separated, None as a dash, others as `str`.
        closing: Lines below the table: what to do next, what was left out.
        opening: Lines between the title and the table.
    """

    data: Mapping[str, Any]
    title: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    closing: Sequence[str] = field(default=())
    opening: Sequence[str] = ()

    def show(self, console: Console) -> None:
        """Prints title, table and closing lines; parts that are empty are left out."""
        if self.title:
            console.print(
                visible(self.title), style="bold", markup=False, highlight=False, emoji=False
            )
        self._say(console, self.opening)
        if self.rows:
            # A terminal breaks lines that are too long; cut off, they would be lost.
            console.print(self._table(), crop=False)
        self._say(console, self.closing)

    @staticmethod
    def _say(console: Console, lines: Sequence[str]) -> None:
        for line in lines:
            # Folded, a command that is proposed could not be copied.
            console.print(visible(line), markup=False, highlight=False, emoji=False, soft_wrap=True)

    def _width(self, number: int) -> int:
        """Returns how wide a column must be for its cells to stay whole."""
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
            # Names stay whole; the last column takes what width is left.
            last = number == len(self.columns) - 1
            table.add_column(
                Text(heading),
                justify="right" if numeric else "left",
                overflow="fold",
                min_width=None if last else self._width(number),
            )
        for row in self.rows:
            table.add_row(*(Text(shown(cell)) for cell in row))
        return table


MOST_WHOLE = 50
"""Characters of a name that a narrow table does not break."""


def shown(cell: Any) -> str:
    """Returns a table cell as people read it."""
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
    """Returns a measure as tables name it: Hits@k for ir-measures' Success@k."""
    return measure.replace("Success@", "Hits@")


def visible(text: str) -> str:
    r"""Returns text for a terminal, in which nothing but letters is sent to it.

    What moves the cursor, colors, sets a window's title or turns the direction of writing is shown
    as its escape, such as \x1b; blanks of all kinds and line ends become one blank each.
    """
    return _UNSEEN.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    character = found.group()
    if character.isspace() and character not in "\x1c\x1d\x1e\x1f":
        return " "
    return (
        character.encode("ascii", "backslashreplace").decode()
        if ord(character) > 127
        else (f"\\x{ord(character):02x}")
    )


def to_json(data: Mapping[str, Any]) -> str:
    """Returns `data` as one line of strict JSON: paths as text, NaN and infinities as null.

    What a terminal would obey is escaped as JSON has it.
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
    # numpy scalars and arrays know their Python value; anything else is told by its text.
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)
