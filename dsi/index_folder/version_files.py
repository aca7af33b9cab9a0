"""Checks the files of an index: regular, inside its folder, and unchanged.

Indexes are downloaded from others. Before anything of a version is read, its folder is walked once:
anything but regular files and folders (a link, a named pipe, a device) is refused, so that no later
reader can leave the folder or block forever, and no writer that copies or links files can pull in
others. A version's manifest lists its files with their sizes, which are compared on every opening,
and their checksums, which are compared for the files that are read.

Checksums detect damage, not tampering: whoever changes a file on purpose can also change the
manifest. All content is validated as well, with or without them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from data_prep.errors import InputError

CHECKSUM = "xxh3_128"
COPY = "Copy the whole index again, or go back with dsi rollback"
MOST_FILES = 100_000
"""Maximum number of entries in a version's folder and in a working folder."""
MOST_DEPTH = 32
MOST_JSON = 32 << 20
"""Bytes of a JSON file: parsed, it takes up to twenty times that."""
MOST_SETTINGS = 1 << 20
"""Bytes of the settings of a text encoder, and of the configuration of a network."""
MOST_MANIFEST = 64 << 20
"""Bytes of a manifest, which may list the ids that an update was given."""
MOST_CONTAINERS = 1_000_000
"""Maximum number of lists and objects in a manifest: once parsed, they take the most memory."""
MOST_TOKENIZER = 128 << 20
"""Bytes of each file of a checkpoint's tokenizer."""
_MANIFEST = "manifest.json"
_NOT_COMPARED = "log"
"""Curves and evaluations: nothing that a command reads depends on them."""
_BLOCK = 1 << 20


def walk(folder: Path, skip: Collection[str] = ()) -> dict[str, int]:
    """Lists a folder that may contain only regular files and folders.

    Args:
        folder: The folder; it must not be a link itself.
        skip: Paths below it, with slashes, whose content is not checked.

    Returns:
        The path of each file below the folder, with slashes -> its size in bytes.

    Raises:
        InputError: It contains a link, a named pipe or a device, or too many entries.
    """
    refuse_other_than(folder, stat.S_ISDIR)
    return dict(_walk(folder, "", 0, frozenset(skip), [0]))


def _walk(
    folder: Path, prefix: str, depth: int, skip: frozenset[str], seen: list[int]
) -> Iterator[tuple[str, int]]:
    if depth > MOST_DEPTH:
        raise InputError(f"folders are nested {depth} deep", where=folder, hint=COPY)
    with os.scandir(folder) as entries:
        for entry in entries:
            seen[0] += 1
            if seen[0] > MOST_FILES:
                raise InputError(f"more than {MOST_FILES:,} files", where=folder, hint=COPY)
            status = entry.stat(follow_symlinks=False)
            name = prefix + entry.name
            if stat.S_ISDIR(status.st_mode):
                if name not in skip:
                    yield from _walk(Path(entry.path), f"{name}/", depth + 1, skip, seen)
            elif stat.S_ISREG(status.st_mode):
                yield name, status.st_size
            else:
                _refuse(Path(entry.path), status.st_mode)


def refuse_other_than(path: Path, kind: Any) -> None:
    """Raises InputError if a path exists but has the wrong type.

    Args:
        path: A path, which need not exist.
        kind: `stat.S_ISREG` or `stat.S_ISDIR`.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not kind(mode):
        _refuse(path, mode)


def _refuse(path: Path, mode: int) -> None:
    kinds = {
        stat.S_ISLNK: "a link",
        stat.S_ISFIFO: "a named pipe",
        stat.S_ISSOCK: "a socket",
        stat.S_ISDIR: "a folder",
        stat.S_ISREG: "a file",
    }
    what = next((name for is_one, name in kinds.items() if is_one(mode)), "a device")
    raise InputError(
        f"{what} is not allowed here: an index consists of regular files and folders",
        where=path,
        hint="Replace it by what it points to (cp -rL), or copy the index again"
        if what == "a link"
        else COPY,
    )


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """Opens a regular file without following links or blocking on a pipe; returns its descriptor.

    Raises:
        FileNotFoundError: It does not exist.
        InputError: It is something else.
    """
    refuse_other_than(path, stat.S_ISREG)
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode=0o644)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"cannot open it ({error.strerror})", where=path) from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        _refuse(path, mode)
    return descriptor


def read_text(path: Path, most: int) -> str:
    """Reads a small text file of an index.

    Raises:
        FileNotFoundError: It does not exist.
        InputError: It is not a regular file, or is longer than `most` bytes.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise InputError(f"more than {most:,} bytes", where=path, hint=COPY)
    return content.decode("utf-8", errors="replace")


def read_manifest(path: Path) -> Any:
    """Reads the JSON of a manifest.

    Raises:
        InputError: It is missing, not UTF-8 JSON, or too large for a manifest.
    """
    try:
        text = read_text(path, MOST_MANIFEST)
        if text.count("[") + text.count("{") > MOST_CONTAINERS:
            raise InputError("the manifest has too many lists and objects", where=path, hint=COPY)
        return json.loads(text)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError("no such file", where=path) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON ({error})", where=path) from None


def record(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns the file list of a manifest: path -> size in bytes and checksum."""
    return {
        name: {"bytes": size, CHECKSUM: checksum(folder / name)}
        for name, size in sorted(walk(folder).items())
        if name != _MANIFEST and not name.startswith(f"{_NOT_COMPARED}/")
    }


def checksum(path: Path) -> str:
    """Returns the checksum of a file's content, 32 hexadecimal digits."""
    import xxhash

    state = xxhash.xxh3_128()
    with os.fdopen(open_regular(path), "rb") as file:
        _feed(state, file)
    return str(state.hexdigest())


def _feed(state: Any, file: IO[bytes]) -> None:
    while block := file.read(_BLOCK):
        state.update(block)


def check_tree(folder: Path, files: Mapping[str, Mapping[str, Any]] | None) -> None:
    """Checks the names, kinds and sizes of everything in the folder of a version.

    Args:
        folder: Folder of the version.
        files: The file list of its manifest; None for a manifest written before there were any.

    Raises:
        InputError: A file is missing, has another size or type, or did not exist when the version
            was written.
    """
    sizes = walk(folder)
    for name, size in sizes.items():
        most = _most_bytes(name)
        if size > most:
            raise InputError(
                f"the file has {size:,} bytes; at most {most:,} are allowed",
                where=folder / name,
                hint=COPY,
            )
    if files is None:
        return
    for name, entry in files.items():
        size = sizes.get(name, -1)
        if size != entry["bytes"]:
            state = "missing" if size < 0 else f"{size} bytes long instead of {entry['bytes']}"
            raise InputError(f"the file is {state}", where=folder / name, hint=COPY)
    for name in sizes:
        top, _, rest = name.partition("/")
        hidden = name.rpartition("/")[2].startswith(".")  # metadata of a file browser
        if name in files or name == _MANIFEST or hidden or (top == _NOT_COMPARED and rest):
            continue
        raise InputError(
            "this file did not exist when the version was written",
            where=folder / name,
            hint="Move it elsewhere: a version never changes",
        )


def _most_bytes(name: str) -> int:
    if name == _MANIFEST:
        return MOST_MANIFEST
    if name in ("text/text.json", "model/config.json"):
        return MOST_SETTINGS
    if name.startswith("text/"):
        return MOST_TOKENIZER
    return MOST_JSON if re.search(r"\.json$", name) else 1 << 62


def check_content(
    folder: Path, files: Mapping[str, Mapping[str, Any]] | None, parts: Collection[str] | None
) -> int:
    """Compares checksums.

    Args:
        folder: Folder of a version.
        files: The file list of its manifest; None to compare nothing.
        parts: Names of the folders in it to compare; None for all.

    Returns:
        How many files were compared.

    Raises:
        InputError: A file has changed since it was written; names the first.
    """
    compared = 0
    for name, entry in (files or {}).items():
        if parts is not None and name.partition("/")[0] not in parts:
            continue
        if checksum(folder / name) != entry[CHECKSUM]:
            raise InputError(
                "the content has changed since it was written (its checksum differs)",
                where=folder / name,
                hint=COPY,
            )
        compared += 1
    return compared


def are_records(files: Any) -> bool:
    """Tells whether a value has the form that `record` returns, with paths inside the folder."""
    return isinstance(files, dict) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("bytes"), int)
        and isinstance(entry.get(CHECKSUM), str)
        and not any(part in ("", ".", "..") for part in name.split("/"))
        and "\0" not in name
        for name, entry in files.items()
    )


def link_or_copy(source: str, target: str) -> str:
    """Hard-links a file that never changes, or copies it if linking fails."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
