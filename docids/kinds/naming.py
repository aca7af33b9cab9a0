"""Assigns identifiers from ranked choices, resolving collisions between documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np

from docids.ragged import Ragged
from docids.table import DocidTable

Sequence_ = tuple[int, ...]
Collisions = Literal["extend", "share"]


class Names:
    """Assigns sequences to documents, one document after another.

    Args:
        collisions: "extend": no two documents get the same sequence, and none gets one that a
            retired document had; the next choice is taken, and when the choices run out, the first
            one with a distinguishing number. "share": every document gets its first choices.
        digits: The ten codes of the digits 0 to 9, which spell the number.
        longest: Maximum number of codes in a sequence; one with a number is truncated to make room
            for it.
        given_before: Whether a document, live or retired, already has a sequence; default: none
            does.
    """

    def __init__(
        self,
        collisions: Collisions,
        digits: Sequence[int],
        longest: int,
        given_before: Callable[[Sequence_], bool] = lambda sequence: False,
    ) -> None:
        self._share = collisions == "share"
        self._digits = digits
        self._longest = longest
        self._given: set[Sequence_] = set()
        self._next: dict[Sequence_, int] = {}
        self._existing_identifiers = given_before
        self.resolved = {"the next choice": 0, "a number was added": 0}
        """What was done where a first choice was taken -> for how many documents."""

    def give(self, choices: Iterable[Sequence_], most: int = 1) -> list[Sequence_]:
        """Returns the identifiers of one more document: at least one, at most `most`.

        Args:
            choices: Sequences of codes, best first; empty and repeated ones are ignored.
            most: How many identifiers the document should have.
        """
        names: list[Sequence_] = []
        first: Sequence_ | None = None
        refused = False
        for choice in dict.fromkeys(choice for choice in choices if choice):
            if first is None:
                first = choice
            if self._free(choice):
                names.append(choice)
                self._given.add(choice)
                if len(names) == most:
                    break
            else:
                refused = True
        if not names:
            names = [() if self._share else self._numbered(first or ())]
            if refused:
                self.resolved["a number was added"] += 1
        elif names[0] != first:
            self.resolved["the next choice"] += 1
        return names

    def _free(self, sequence: Sequence_) -> bool:
        if self._share:
            return True
        return sequence not in self._given and not self._existing_identifiers(sequence)

    def _numbered(self, sequence: Sequence_) -> Sequence_:
        number = self._next.get(sequence, 2)
        while True:
            spelled = tuple(self._digits[int(digit)] for digit in str(number))
            candidate = (*sequence[: self._longest - len(spelled)], *spelled)
            number += 1
            if self._free(candidate):
                self._next[sequence] = number
                self._given.add(candidate)
                return candidate


class ExistingIdentifiers:
    """Looks identifiers up in a table, by their hashes.

    Args:
        table: The table.
    """

    def __init__(self, table: DocidTable) -> None:
        self._table = table
        hashes = table.identifiers.hashes()
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]
        self._owners = table.owners

    def __call__(self, sequence: Sequence_) -> bool:
        """Returns whether a document has, or had, an identifier."""
        key = Ragged.pack([sequence]).hashes()[0]
        first = np.searchsorted(self._hashes, key, side="left")
        last = np.searchsorted(self._hashes, key, side="right")
        rows = (int(self._owners[number]) for number in self._order[first:last].tolist())
        return any(sequence in self._table.sequences(row) for row in rows)
