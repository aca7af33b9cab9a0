"""The one error that means: the input or the call is wrong."""

from __future__ import annotations

import os


class InputError(Exception):
    """Wrong input, told in one line: what is wrong, where, and how to mend it.

    The command line prints the line and exits with code 2; every other exception is a
    defect or a failing machine and exits with code 1.

    Args:
        what: What is wrong, with the offending value.
        where: The file, line, column or option it was found in.
        mend: What the user should do about it.
    """

    def __init__(
        self, what: str, *, where: str | os.PathLike[str] | None = None, mend: str | None = None
    ) -> None:
        parts = [what.rstrip(".")]
        if where is not None:
            parts[0] = f"{os.fspath(where)}: {parts[0]}"
        if mend is not None:
            parts.append(mend.rstrip("."))
        super().__init__(". ".join(" ".join(part.split()) for part in parts) + ".")
