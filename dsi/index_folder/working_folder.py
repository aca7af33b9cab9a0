"""The folder for a command's work in progress: which command owns it, and when it is freed.

A killed command leaves its folder, and the same command, run again, resumes in it. A claim in it
identifies the command. A refused command has nothing to resume: its folder is removed or, if
something in it was expensive, kept for the same command until another one needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from data_prep.errors import InputError
from data_prep.files import remove_folder

CHECKPOINTS = "checkpoints"
_REFUSED = "refused"


@contextmanager
def removed_if_refused(work: Path, costly: Sequence[str] = ()) -> Iterator[None]:
    """Frees the folder of a command that is refused for its data or options.

    If there are checkpoints, the claim remains: the failure is then not a refusal of the request,
    and another command must not remove hours of work.

    Args:
        work: The folder, claimed by its command.
        costly: Expensive content. If any exists, the folder is kept.
    """
    (work / _REFUSED).unlink(missing_ok=True)
    try:
        yield
    except InputError:
        if not any((work / CHECKPOINTS).glob("[0-9]*")):
            if any((work / name).exists() for name in costly):
                (work / _REFUSED).touch()
            else:
                remove_folder(work)
        raise


def remove_refused(work: Path) -> bool:
    """Removes a folder whose command was refused; returns whether it did."""
    if not (work / _REFUSED).is_file():
        return False
    remove_folder(work)
    return True
