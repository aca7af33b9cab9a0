"""A folder of text, Markdown and HTML files, or one such file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from data_prep.compression import open_uncompressed, without_compression
from data_prep.dataset import Document, ExampleCounter
from data_prep.errors import InputError
from data_prep.limits import LONGEST_RECORD
from data_prep.sources.base import SOURCES, SourceOptions, existing
from data_prep.sources.judged import JudgedByFiles
from data_prep.sources.lines import detect_wide, is_utf_8, lines
from data_prep.sources.prose import Prose, read_html, read_markdown, read_plain
from data_prep.sources.records import suffix

READERS: dict[str, Callable[[str], Prose]] = {
    ".txt": read_plain,
    ".text": read_plain,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".html": read_html,
    ".htm": read_html,
}
_HEAD = 2**13
"""Bytes of a file that are searched for zero bytes, which mark it as binary."""
_OTHER = "file that is not text, Markdown or HTML"
_LINK = "symbolic link, which is not followed"
_HIDDEN = "hidden file or folder"
_BINARY = "file with the suffix of a text file but binary content"
_EMPTY_SECTION = "heading without text"
_CASE = "file name that differs from another only in case"


@SOURCES.register("text")
class Text(JudgedByFiles):
    """One document per file or heading; the id is the path in the folder, with `/`.

    Subfolders are read. Symbolic links are not followed; hidden files, files of other types and
    binary files are skipped and counted.
    """

    prefix = "text"
    form = "a folder of text files (.txt, .md, .html), or one of them, with one document per file"
    place = 1
    uses = JudgedByFiles.uses | {"split"}

    def __init__(self, argument: str, options: SourceOptions) -> None:
        super().__init__(argument, options)
        path = existing(argument)
        self._single = not path.is_dir()
        self._folder = path.parent if self._single else path
        if self._single and suffix(path) not in READERS:
            raise InputError(
                "the file name does not have the suffix of a text format",
                where=argument,
                hint=f"Give it one of the suffixes {', '.join(READERS)}",
            )
        if (path / "dataset.json").is_file():
            raise InputError("this folder is already a dataset", where=argument)
        self._path = path
        if not self._files():
            self._refuse_empty(argument)

    @classmethod
    def accepts(cls, argument: str) -> bool:
        """Accepts any folder that no other source reads, and a file with a known suffix."""
        path = Path(argument)
        return path.is_dir() or (path.is_file() and suffix(path) in READERS)

    def documents(self) -> Iterator[Document]:
        """Yields the documents, in order of path."""
        self.passed_over.clear()
        self.noted.clear()
        files = self._files()
        times = Counter(name.casefold() for name in files)
        for name in files:
            if times[name.casefold()] > 1:
                self.noted.setdefault(_CASE, ExampleCounter()).add(name)
            file = self._folder / name
            if _is_binary(file, self.options.encoding):
                self._pass_over(_BINARY, name)
                continue
            prose = READERS[suffix(file)](self._text(file))
            title = prose.title_or(_stem(name))
            if self.options.split == "files":
                text = "\n\n".join(_whole(prose, title))
                yield Document(name, title, text)
            else:
                yield from self._sections(name, title, prose)

    def _sections(self, name: str, title: str, prose: Prose) -> Iterator[Document]:
        """Yields one document per heading; text before the first heading has the id of the file."""
        for section in prose.sections:
            if not section.text and (section.heading or len(prose.sections) > 1):
                if section.heading:
                    self._pass_over(_EMPTY_SECTION, f"{name}#{section.anchor}")
                continue
            doc_id = f"{name}#{section.anchor}" if section.anchor else name
            within = section.heading and section.heading != title
            yield Document(doc_id, f"{title}: {section.heading}" if within else title, section.text)

    def _text(self, file: Path) -> str:
        parts, size = [], 0
        for _, line in lines(file, self.options.encoding):
            size += len(line)
            if size > LONGEST_RECORD:
                raise InputError(
                    f"the text is longer than {LONGEST_RECORD:,} characters",
                    where=file,
                    hint="Split it into several files",
                )
            parts.append(line)
        return "".join(parts)

    def _files(self) -> list[str]:
        """Returns the names of the files to read, as paths in the folder, sorted."""
        if self._single:
            return [self._path.name]
        names = []
        for folder, folders, files in os.walk(self._folder):
            above = Path(folder).relative_to(self._folder)
            folders.sort()
            for name in [*folders]:
                path = Path(folder) / name
                if path.is_symlink() or name.startswith("."):
                    folders.remove(name)
                    reason = _LINK if path.is_symlink() else _HIDDEN
                    self._pass_over(reason, f"{(above / name).as_posix()}/")
            for name in files:
                path, relative = Path(folder) / name, (above / name).as_posix()
                if path.is_symlink():
                    self._pass_over(_LINK, relative)
                elif name.startswith("."):
                    self._pass_over(_HIDDEN, relative)
                elif suffix(path) not in READERS or not path.is_file():
                    self._pass_over(_OTHER, relative)
                else:
                    names.append(_checked_name(relative, path))
        return sorted(names)

    def _pass_over(self, reason: str, name: str) -> None:
        self.passed_over.setdefault(reason, ExampleCounter()).add(
            name.encode("utf-8", "replace").decode()
        )

    def _refuse_empty(self, argument: str) -> None:
        kinds = Counter(
            suffix(Path(name)) or "files without suffix"
            for _, _, files in os.walk(self._folder)
            for name in files
            if not name.startswith(".")
        )
        contents = ", ".join(f"{count:,} x {kind}" for kind, count in kinds.most_common(5))
        raise InputError(
            f"no text files in this folder; it contains: {contents}"
            if kinds
            else "this folder is empty",
            where=argument,
            hint=f"Give a folder with files of {', '.join(READERS)}"
            + (", or name one of these files, or trec:FOLDER for TREC documents" if kinds else ""),
        )


def _whole(prose: Prose, title: str) -> Iterator[str]:
    """Yields the headings and texts of a file, except a heading that is its title."""
    for section in prose.sections:
        if section.heading and section.heading != title:
            yield section.heading
        if section.text:
            yield section.text


def _stem(name: str) -> str:
    """Returns the name of a file without its folder and its suffixes."""
    base = name.rpartition("/")[2]
    return Path(base[: len(without_compression(base))]).stem


def _checked_name(name: str, path: Path) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            "the name of this file is not UTF-8, and cannot be an id",
            where=os.fsencode(path).decode("utf-8", "backslashreplace"),
            hint="Rename it",
        ) from None
    return name


def _is_binary(file: Path, encoding: str) -> bool:
    """Returns whether a file is binary: a zero byte that its encoding cannot contain."""
    with open_uncompressed(file, _HEAD) as raw:
        head = raw.read(_HEAD)
    return is_utf_8(encoding) and detect_wide(head) is None and b"\0" in head
