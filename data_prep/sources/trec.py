"""TREC document files: <DOC> <DOCNO> id </DOCNO> ... </DOC>, one file or a folder of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from data_prep.compression import open_uncompressed
from data_prep.dataset import Document, ExampleCounter
from data_prep.errors import InputError
from data_prep.sources.base import SOURCES, SourceOptions, existing
from data_prep.sources.judged import JudgedByFiles
from data_prep.sources.lines import lines
from data_prep.sources.markup import marked, plain
from data_prep.sources.records import suffix

TREC_SUFFIXES = (".trec", ".trectext", ".trecweb", ".sgml", ".sgm")
_NO_DOCUMENT = "file without <DOC>"
TITLE_TAGS = ("TITLE", "HEADLINE", "HEAD", "HL", "TI")

_DOCNO = re.compile(r"<DOCNO\b[^>]*>(.*?)</DOCNO\s*>", re.DOTALL | re.IGNORECASE)
# Without its closing tag, a title ends at the next tag or with its line.
_TITLE = re.compile(
    rf"<({'|'.join(TITLE_TAGS)})\b[^>]*>"
    r"(?:((?:(?!<TEXT\b).)*?)</\1\s*>|\s*([^<\r\n]+))",
    re.DOTALL | re.IGNORECASE,
)
# The closing tag of <TEXT> may be missing before another <TEXT> and at the end of a document.
_TEXT = re.compile(r"<TEXT\b[^>]*>(.*?)(?:</TEXT\s*>|(?=<TEXT\b)|\Z)", re.DOTALL | re.IGNORECASE)
_HEADER = re.compile(r"<(DOCHDR|DOCID)\b[^>]*>.*?</\1>", re.DOTALL | re.IGNORECASE)


@SOURCES.register("trec")
class Trec(JudgedByFiles):
    """The TREC document format, with topics (`--queries`) and qrels in separate files.

    The title is the first <TITLE>, <HEADLINE>, <HEAD>, <HL> or <TI>; the text is the content of
    <TEXT>, or, in a document without it, everything except number, header and title.
    """

    prefix = "trec"
    form = f"TREC documents ({', '.join(TREC_SUFFIXES)}, or trec:FILE_OR_FOLDER)"
    place = 7

    def __init__(self, argument: str, options: SourceOptions) -> None:
        super().__init__(argument, options)
        path = existing(argument)
        self.files = [path]
        self._folder = path if path.is_dir() else None
        if self._folder:
            self.files = sorted(p for p in path.rglob("[!.]*") if p.is_file())

    @classmethod
    def accepts(cls, argument: str) -> bool:
        """Accepts a file with a known suffix."""
        return suffix(Path(argument)) in TREC_SUFFIXES and Path(argument).is_file()

    def documents(self) -> Iterator[Document]:
        """Yields the documents, file by file in order of name.

        Of a folder, files without any <DOC> are skipped and counted, in whatever encoding they are.
        """
        self.passed_over.clear()
        for path in self.files:
            if self._folder and not _has_documents(path):
                name = path.relative_to(self._folder).as_posix()
                self.passed_over.setdefault(_NO_DOCUMENT, ExampleCounter()).add(
                    name.encode("utf-8", "replace").decode()
                )
                continue
            yield from self._documents_of(path)

    def _documents_of(self, path: Path) -> Iterator[Document]:
        numbered = lines(path, self.options.encoding)
        for number, markup in marked(numbered, "DOC", "DOCNO", path):
            yield self._document(markup, f"{path}:{number}")

    def _document(self, markup: str, where: str) -> Document:
        number = _DOCNO.search(markup)
        if number is None:
            raise InputError("a <DOC> has no <DOCNO> ... </DOCNO>", where=where)
        title = _TITLE.search(markup)
        bodies = _TEXT.findall(markup)
        if not bodies:
            rest = _HEADER.sub(" ", _DOCNO.sub(" ", markup))
            bodies = [rest.replace(title.group(), " ") if title else rest]
        return Document(
            number.group(1).strip(),
            " ".join(plain(_title(title)).split()) if title else "",
            "\n\n".join(plain(body) for body in bodies),
        )


def _title(found: re.Match[str]) -> str:
    """Returns the content of a title tag; that of the <title> inside, for the <head> of HTML."""
    content: str = found.group(2) or found.group(3) or ""
    inner = _TITLE.search(content)
    return (inner.group(2) or inner.group(3) or "") if inner else content


def _has_documents(path: Path) -> bool:
    """Tells whether a file has a <DOC> or <DOCNO>, whatever its encoding."""
    with open_uncompressed(path, 2**16) as raw:
        before = b""
        while block := raw.read(2**16):
            content = before + block.replace(b"\0", b"").lower()  # of UTF-16 and UTF-32
            if b"<doc" in content:
                return True
            before = content[-3:]
    return False
