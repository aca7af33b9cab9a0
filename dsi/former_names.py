"""Former names of options, by which command lines and configuration files still give them."""

from __future__ import annotations

OPTIONS = {"docids_folder": "docids"}
"""Former name -> the name of today; a folder of identifiers is given where a kind is."""


def of_today(name: str) -> str:
    """Returns the name of an option, which may be given by a former one."""
    return OPTIONS.get(name, name)
