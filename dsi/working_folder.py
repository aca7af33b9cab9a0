"""The folder of what a command has under way: whose it is, and when another may have it.

A command that was killed leaves its folder, and the same command, run again, continues in it. A
claim in it says which command that is. A command that was refused has nothing to continue: its
folder goes, or where something in it took long, is there for the same command only as long as no
other one wants it.
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
def freed_when_refused(work: Path, costly: Sequence[str] = ()) -> Iterator[None]:
    """Frees the folder of a command that is refused for its data or options.

    Where there are checkpoints the claim stands: it is no refusal of what was asked for, and
    hours of work are not another command's to remove.

    Args:
        work: The folder; its command has claimed it.
        costly: What in it took long to make. Where there is some, the folder stays.
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


def free_refused(work: Path) -> bool:
    """Removes a folder whose command was refused; tells whether it has."""
    if not (work / _REFUSED).is_file():
        return False
    remove_folder(work)
    return True
